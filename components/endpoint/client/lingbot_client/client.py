"""The client: episodes of questions to whatever endpoint is behind an address, through restarts."""

import math
import random
import re
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from lingbot_client.backoff import Backoff
from lingbot_client.codec import pack, unpack
from lingbot_client.connection import Address, Connection, Lost, websocket_url
from lingbot_client.contract import Needs
from lingbot_client.errors import BadActions, BadReply, Busy, Refused, ServerAway, VersionChanged
from lingbot_client.real_time import LEFT_OVER

LINGBOT = "lingbot-pipelines"
_AGAIN = re.compile(r"again in (\d+(?:\.\d+)?) s\b")
_MAX_RESENDS = 5
_OPEN_SECONDS = 10.0


def observation(
    images: Mapping[str, np.ndarray], state: np.ndarray, task: str, *, seed: int | None = None
) -> dict[str, Any]:
    """A message in LingBot's key names.

    Args:
        images: camera name -> uint8 [H, W, 3], RGB.
        state: [S], in the order of the contract.
        task: the instruction.
        seed: makes the answer repeatable.
    """
    message: dict[str, Any] = {f"observation.images.{name}": image for name, image in images.items()}
    message |= {"observation.state": np.asarray(state, np.float32), "task": task}
    return message if seed is None else {**message, "seed": seed}


class PolicyClient:
    """A connection to an endpoint, made at once and made again when it breaks. For one thread, one robot.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT.
        needs: what the served policy must be like; checked at every connection.
        key: of this robot, where the endpoint wants one.
        backoff: waits between attempts to connect.
        reply_seconds: how long an answer may take.
        tls: for wss:// with a certificate that the system does not know.

    Raises:
        ServerAway, NotAllowed, ContractMismatch
        ValueError: an address or a key that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        needs: Needs | None = None,
        key: str = "",
        backoff: Backoff | None = None,
        reply_seconds: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = Address(websocket_url(url), key, tls)
        self._needs = needs or Needs()
        self._backoff = backoff or Backoff()
        self._reply_seconds = reply_seconds
        self._random = random.Random()
        self._connection: Connection | None = None
        self._episode = uuid.uuid4().hex
        self._digest: str | None = None
        self._leaving = False
        self.reconnects = 0
        self.latency_ms = 0.0
        """Milliseconds from the last question to its answer."""
        self.metadata: dict[str, Any] = {}
        """The first frame of the present connection: who serves, and the contract."""
        self._connect(time.monotonic() + self._backoff.patience)

    @property
    def contract(self) -> dict[str, Any]:
        """Cameras, state, action, horizon, control_hz, tasks; empty when the server tells none."""
        return self.metadata.get("contract") or {}

    @property
    def real_time(self) -> bool:
        """Whether the endpoint goes on from the chunk that a robot is executing (`RealTimeBroker`)."""
        return LEFT_OVER in (self.metadata.get("real_time_chunking") or ())

    @property
    def episode_id(self) -> str:
        return self._episode

    def reset(self, episode_id: str = "") -> None:
        """Begins an episode: whatever version the endpoint gives it, it keeps.

        Raises:
            ServerAway, NoReply, Refused, ContractMismatch
        """
        self._episode = episode_id or uuid.uuid4().hex
        self._digest = None
        if self._leaving:  # this process ends with its last episode; another one answers at the address
            self.close()
            self.reconnects += 1
            self._connect(time.monotonic() + self._backoff.patience)
        if self._ours:
            self._ask({"reset": True, "episode_id": self._episode}, None)

    def infer(self, message: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """The reply to an observation: `actions` [T, A], `model_version`, `bundle_digest`, timings.

        A connection that breaks is made again and the observation sent again, to whoever answers at the address then.

        Args:
            message: as `observation` makes it; keys of openpi's dialect go too.
            deadline: seconds from now after which the answer is of no use; the endpoint is told.

        Raises:
            Busy, Refused: the endpoint answered with a sentence.
            ServerAway, NoReply: it did not answer.
            VersionChanged: another version answered than the episode began with.
            BadReply: what it answered cannot be executed.
            ValueError: a deadline that is no time from now.
        """
        if deadline is not None and not 0 < deadline < math.inf:
            raise ValueError(f"deadline {deadline} must be seconds from now, over 0")
        extra: dict[str, Any] = {}
        if self._ours:
            extra["episode_id"] = self._episode
            if deadline is not None:
                extra["deadline_ms"] = deadline * 1000
        started = time.perf_counter()
        reply = self._ask({**message, **extra}, deadline)
        self.latency_ms = (time.perf_counter() - started) * 1000
        self._check_version(reply)
        self._check_actions(reply)
        return reply

    def close(self) -> None:
        """Ends the connection, and with it the episode."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _ours(self) -> bool:
        """Whether the server knows what openpi's protocol has not: `reset`, `episode_id`, `deadline_ms`."""
        return self.metadata.get("server") == LINGBOT

    def _ask(self, message: Mapping[str, Any], deadline: float | None) -> dict[str, Any]:
        frame = pack(dict(message))
        end = math.inf if deadline is None else time.monotonic() + deadline
        until: float | None = None  # when to stop looking for an endpoint; there is one until it is lost
        for attempt in range(1, _MAX_RESENDS + 1):
            connection = self._connection
            if connection is None:
                until = until or min(end, time.monotonic() + self._backoff.patience)
                connection = self._connect(until)
            try:
                answer = connection.ask(frame, min(self._reply_seconds, max(0.0, end - time.monotonic())))
            except Lost as lost:
                self.close()
                self.reconnects += 1
                reason = lost
                until = until or min(end, time.monotonic() + self._backoff.patience)
                self._pause(attempt, lost.seconds, until, lost)
                continue
            except BaseException:  # Ctrl-C too: the answer to this message must not be taken for that to the next
                self.close()
                raise
            if isinstance(answer, str):
                again = _AGAIN.search(answer)
                raise Busy(answer, float(again[1])) if again else Refused(answer)
            reply = unpack(answer)
            if not isinstance(reply, dict):
                raise BadReply(f"the reply is a {type(reply).__name__}, not a map")
            self._leaving = bool(reply.get("draining"))
            return reply
        raise ServerAway(f"{self._address.url} dropped the connection {_MAX_RESENDS} times over one message: {reason}")

    def _connect(self, until: float) -> Connection:
        attempt = 0
        while True:
            attempt += 1
            try:
                connection = self._address.open(min(_OPEN_SECONDS, max(0.1, until - time.monotonic())))
            except Lost as lost:
                self._pause(attempt, lost.seconds, until, lost)
                continue
            try:
                self._needs.check(connection.metadata)
            except Exception:
                connection.close()
                raise
            self._connection, self.metadata, self._leaving = connection, connection.metadata, False
            return connection

    def _pause(self, attempt: int, asked: float | None, until: float, reason: Lost) -> None:
        wait = self._backoff.wait(attempt, asked, self._random)
        if time.monotonic() + wait > until:
            raise ServerAway(
                f"{self._address.url} cannot be reached ({reason}): check the address, and that an endpoint runs there"
            ) from reason
        time.sleep(wait)

    def _check_version(self, reply: Mapping[str, Any]) -> None:
        digest = reply.get("bundle_digest")
        if digest is None:
            return
        if self._digest is None:
            self._digest = digest
        elif digest != self._digest:
            raise VersionChanged(
                f"the episode began with bundle {self._digest[:12]}, the answer is of {str(digest)[:12]} "
                f"(version {reply.get('model_version')}): stop this episode and reset() to begin another"
            )

    def _check_actions(self, reply: dict[str, Any]) -> None:
        actions: Any = reply.get("actions", reply.get("action"))
        width = len(self.contract["action"]) if self.contract.get("action") else None
        whole = isinstance(actions, np.ndarray) and actions.ndim in (2, 3) and actions.shape[-2] > 0
        if not whole or (width is not None and actions.shape[-1] != width):
            expected = f"(steps, {width or 'joints'})"
            raise BadActions(f"the reply's actions have shape {np.shape(actions)}, not {expected}", actions)
        if not np.isfinite(actions).all():
            count = int((~np.isfinite(actions)).sum())
            raise BadActions(f"{count} of the reply's actions are not finite", actions)
        reply["actions"] = actions
