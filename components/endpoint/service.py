"""What the transports share: one served bundle, its runner and guard, counters, and what the probes ask for."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.endpoint.contract import Contract
from components.endpoint.errors import BadMessage, BadObservation, Unavailable
from components.endpoint.guard import guard
from components.endpoint.observations import Request, check_reset, is_reset, read_requests
from components.endpoint.routing import Routes
from components.endpoint.runner import ModelRunner
from components.endpoint.served import Served
from components.endpoint.sessions import Session, SessionTable
from model.errors import UserError

PROTOCOL = "openpi"
logger = logging.getLogger("lingbot.endpoint")


class Service:
    """Answers messages with action chunks. Lives on the event loop; only the runner's thread touches the model."""

    def __init__(self, served: Served, *, queue_limit: int = 16, stuck_seconds: float = 120.0) -> None:
        self.routes = Routes(champion=served)
        self.sessions = SessionTable()
        self.runner = ModelRunner(queue_limit=queue_limit)
        self.counters: Counter[str] = Counter()
        self.warm = False
        self.draining = False
        self._stuck_seconds = stuck_seconds

    @property
    def served(self) -> Served:
        """The champion."""
        return self.routes.champion

    @property
    def contract(self) -> Contract:
        """What every version that is served here expects and gives: a version with another one is not swapped in."""
        return self.routes.champion.contract

    def metadata(self) -> dict[str, Any]:
        """The first frame of a websocket: who answers, and the contract by which a client can refuse."""
        contract = self.contract
        first = contract.cameras[0]
        return {
            "server": "lingbot-pipelines",
            "protocol": PROTOCOL,
            **self.served.identity(),
            "contract": contract.described,
            # vLLM-Omni's clients read these (PLATFORM_FACTS 3.5).
            "policy_server_config": {
                "image_resolution": [first.height, first.width],
                "n_external_cameras": sum(not camera.role.endswith("wrist") for camera in contract.cameras),
                "needs_wrist_camera": any(camera.role.endswith("wrist") for camera in contract.cameras),
                "needs_session_id": False,
                "action_space": "joint_position",
                "action_horizon": contract.horizon,
                "action_dim": len(contract.action),
                "action_keys": ["action", "actions"],
            },
        }

    async def warm_up(self) -> None:
        """Runs the bundle's golden observation: the first robot does not pay for the first call, and the arithmetic of
        this machine is shown to be that of the machine which exported the bundle.

        Raises:
            UserError: the golden actions differ.
        """
        await self.runner.run(self.served.bundle.self_test)
        self.warm = True

    async def answer(self, message: Any, session: Session) -> dict[str, Any]:
        """The reply to one message: actions, or the acknowledgement of a reset.

        Every transport comes through here. The reply names the version that gave it, which stays the same for an
        episode of the session, and has `episode_id`; `draining: True` asks the robot to connect again between episodes.

        Args:
            message: decoded, of any type.
            session: of the connection (`service.sessions.open()`), or of the request over HTTP
                (`service.sessions.of_request(message, client)`).

        Raises:
            Refused: with the sentence for the client.
        """
        if self.draining:
            raise Unavailable("the server is shutting down: connect again", retry_after=1)
        if not isinstance(message, Mapping):
            raise BadMessage("a message is one map of keys to values")
        if is_reset(message):
            check_reset(message, self.contract)
            episode = session.begin(message, self.routes)
            self.counters["resets"] += 1
            return {
                "action": None,
                "actions": None,
                "status": "reset successful",
                "episode_id": episode.id,
                **episode.served.identity(),
            }
        arrived = time.perf_counter()
        requests, is_batch = read_requests(message, self.contract)
        episode = session.continued(message, self.routes, time.monotonic())
        served = episode.served
        seeds = [secrets.randbits(32) if request.seed is None else request.seed for request in requests]
        session.pending += 1
        try:
            answers = await self.runner.run(lambda: self._infer(served, requests, seeds))
        finally:
            session.pending -= 1
            session.last_heard = time.monotonic()
        episode.observations += len(requests)
        guarded = [guard(actions, served.contract) for actions in answers.value]
        clipped = sum(one.clipped for one in guarded)
        self.counters["answers"] += len(guarded)
        self.counters["clipped_values"] += clipped
        actions = np.stack([one.actions for one in guarded]) if is_batch else guarded[0].actions
        milliseconds = answers.seconds * 1000
        return {
            "action": actions,
            "actions": actions,
            "seed": seeds if is_batch else seeds[0],
            "clipped_values": clipped,
            "episode_id": episode.id,
            **served.identity(),
            "policy_timing": {"infer_ms": milliseconds},
            "server_timing": {
                "infer_ms": milliseconds,
                "queue_ms": answers.queue_seconds * 1000,
                "total_ms": (time.perf_counter() - arrived) * 1000,
            },
        }

    def alive(self) -> str | None:
        """None when alive, else the reason: the model's thread has been in one call for too long."""
        running = self.runner.running_seconds()
        if running > self._stuck_seconds:
            return f"one call of the model has been running for {running:.0f} s"
        return None

    def ready(self) -> str | None:
        """None when requests are taken, else the reason why not."""
        if self.draining:
            return "shutting down"
        if not self.warm:
            return "warming up"
        if self.runner.full:
            return "the queue is full"
        return self.alive()

    def _infer(self, served: Served, requests: list[Request], seeds: list[int]) -> np.ndarray:
        from model.inference import Observation

        observations = [Observation(images=r.images, state=r.state, task=r.task) for r in requests]
        try:
            return served.bundle.infer(observations, seeds=seeds)
        except UserError as error:  # what the bundle itself refuses in an observation
            raise BadObservation(str(error)) from error
