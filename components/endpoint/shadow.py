"""The shadow: a version that is asked what the robots asked, whose answers are compared and never sent.

It is asked while no robot waits, so a robot waits for it at most the rest of one call; where one always waits, a call
in 2 s goes before them. What does not fit is skipped and counted.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from components.endpoint.batching import Batcher, infer
from components.endpoint.errors import UnsafeAction
from components.endpoint.guard import GuardMode, guard
from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request
from components.endpoint.realtime import RunningChunk
from components.endpoint.served import Served

logger = logging.getLogger("lingbot.endpoint")


@dataclass(kw_only=True)
class Divergence:
    """How far a shadow's chunks were from those that were sent, in the robot's units."""

    compared: int = 0
    largest: float = 0.0
    mean: float = 0.0  # of the mean absolute difference of a chunk

    def saw(self, difference: np.ndarray) -> None:
        self.compared += 1
        self.largest = max(self.largest, float(difference.max()))
        self.mean += (float(difference.mean()) - self.mean) / self.compared


class Shadowing:
    """Asks the shadow and keeps what came of it."""

    def __init__(self, batcher: Batcher, metrics: Metrics, guard_mode: GuardMode) -> None:
        self._batcher, self._metrics, self._guard_mode = batcher, metrics, guard_mode
        self.divergence: dict[str, Divergence] = {}  # by the shadow's version

    def compare(
        self,
        shadow: Served,
        requests: Sequence[Request],
        seeds: Sequence[int],
        running: RunningChunk | None,
        sent: Sequence[np.ndarray],
    ) -> None:
        """Asks the shadow the same, with the same noise, when there is time. `sent`: f32 [T,A] of each request."""
        call = partial(infer, shadow, requests, seeds, () if running is None else (running,))
        future = self._batcher.when_idle(call)
        if future is None:
            self._metrics.count("shadow", version=shadow.model_version, result="skipped")
        else:
            future.add_done_callback(partial(self._compared, shadow, [request.state for request in requests], sent))

    def _compared(
        self,
        shadow: Served,
        states: Sequence[np.ndarray],
        sent: Sequence[np.ndarray],
        future: "asyncio.Future[np.ndarray]",
    ) -> None:
        version = shadow.model_version
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            try:
                chunks = [
                    guard(chunk, shadow.contract, state=state, mode=self._guard_mode)
                    for chunk, state in zip(future.result(), states, strict=True)
                ]
            except UnsafeAction as unsafe:
                error = unsafe
        if error is not None:
            self._metrics.count("shadow", version=version, result="failed")
            logger.warning("the shadow, version %s, failed: %s", version, error)
            return
        for ours, theirs in zip(chunks, sent, strict=True):
            difference = np.abs(ours.actions - theirs)
            self.divergence.setdefault(version, Divergence()).saw(difference)
            self._metrics.observe("shadow_difference", float(difference.max()), version=version)
            self._metrics.count("shadow", version=version, result="compared")
