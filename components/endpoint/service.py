"""What the transports share: one answer to one message, from the version that the robot's episode is tied to."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.endpoint import logs
from components.endpoint.alarms import Watches
from components.endpoint.batching import Answered, Batcher, Work
from components.endpoint.contract import Contract
from components.endpoint.errors import BadMessage, BadObservation, Refused, Unavailable, UnsafeAction
from components.endpoint.guard import Guarded, GuardMode, guard
from components.endpoint.journal import Journal
from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request, check_reset, is_reset, read_requests
from components.endpoint.realtime import KEYS, asks, read_running
from components.endpoint.recording import Recorder
from components.endpoint.routing import Routes
from components.endpoint.runner import ModelRunner
from components.endpoint.served import Served
from components.endpoint.sessions import Episode, Session, SessionTable, identifier
from components.endpoint.shadow import Shadowing

PROTOCOL = "openpi"
MAX_DEADLINE_SECONDS = 600.0
_HOUSEKEEPING_SECONDS = 1.0
_LOOK_SECONDS = 0.002  # a thread begins within; a model that is faster is looked at before its reply


@dataclass(kw_only=True, eq=False)
class Asked:
    """A message that was read: a reset has its reply, anything else is on its way to the model.

    Attributes:
        arrived: by `time.perf_counter`.
        waits: for the model's answer, which has not been taken yet.
        looking: at its observations, will soon be done.
        alarms: texts, that came of it.
    """

    message: Mapping[str, Any]
    session: Session
    request_id: str
    arrived: float
    reply: dict[str, Any] | None = None
    episode: Episode | None = None
    work: Work | None = None
    waits: bool = False
    is_batch: bool = False
    looking: asyncio.TimerHandle | None = None
    alarms: list[str] = field(default_factory=list)


class Service:
    """Answers messages with action chunks. Lives on the event loop; only the runner's thread touches the model."""

    def __init__(
        self,
        served: Served,
        *,
        metrics: Metrics | None = None,
        max_batch: int = 16,
        queue_limit: int = 64,
        client_limit: int = 16,
        deadline_seconds: float = 30.0,
        stuck_seconds: float = 120.0,
        guard_mode: GuardMode = "clamp",
    ) -> None:
        self.routes = Routes(champion=served)
        self.sessions = SessionTable()
        self.metrics = metrics or Metrics()
        self.route(self.routes)
        self.runner = ModelRunner()
        self.batcher = Batcher(
            self.runner, self.metrics, max_batch=max_batch, queue_limit=queue_limit, client_limit=client_limit
        )
        self.guard_mode = guard_mode
        self.shadowing = Shadowing(self.batcher, self.metrics, guard_mode)
        self.watches = Watches(self.metrics)
        self.journal = Journal()
        self.recorder: Recorder | None = None
        self.warm = False
        self.draining = False
        self._deadline_seconds = deadline_seconds
        self._stuck_seconds = stuck_seconds
        self._versions_seen: set[str] = set()

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
            "real_time_chunking": list(KEYS),
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

    def route(self, routes: Routes) -> None:
        """Serves new episodes by these from now on; what runs keeps what it has."""
        old, self.routes = self.routes, routes
        for of in (old, routes):
            for role, served in of.roles():
                labels = {"model": served.model_name, "version": served.model_version, "digest": served.digest}
                if of is routes:
                    self.metrics.set("model_info", 1, **labels, role=role)
                else:
                    self.metrics.forget("model_info", **labels, role=role)
        self.metrics.set("canary_share", routes.share)

    async def warm_up(self) -> None:
        """Makes the champion ready for its first robot.

        Raises:
            UserError: the golden actions differ.
        """
        await self.rehearse(self.served)
        self.warm = True

    async def rehearse(self, served: Served) -> None:
        """Runs a version's golden observation, between the robots' calls: its first robot does not pay for the first
        call, and the arithmetic of this machine is shown to be that of the machine which exported the bundle.

        Raises:
            UserError: the golden actions differ.
        """
        await self.batcher.alone(served.bundle.self_test)

    async def answer(self, message: Any, session: Session) -> dict[str, Any]:
        """The reply to one message: actions, or the acknowledgement of a reset. `ask` and `reply` in one.

        Every transport comes through here, or through the two. The reply names the version that gave it, which stays
        the same for an episode of the session, and has `episode_id`; `draining: True` asks the robot to connect again
        between episodes.

        Args:
            message: decoded, of any type.
            session: of the connection (`service.sessions.open()`), or of the request over HTTP
                (`service.sessions.of_request(message, client)`).

        Raises:
            Refused: with the sentence for the client. `refused` counts it.
        """
        return await self.reply(self.ask(message, session))

    def ask(self, message: Any, session: Session) -> Asked:
        """Reads one message and puts it on its way to the model, without waiting. Then comes `reply`, or `leave`.

        Raises:
            Refused: with the sentence for the client.
        """
        arrived = time.perf_counter()
        if not isinstance(message, Mapping):
            raise BadMessage("a message is one map of keys to values")
        if self.draining and session.transport != "websocket":
            raise Unavailable("the server is shutting down: connect again", retry_after=1)
        asked = Asked(
            message=message,
            session=session,
            request_id=identifier(message, "request_id") or secrets.token_hex(8),
            arrived=arrived,
        )
        with self._bound(asked):
            if is_reset(message):
                asked.reply = self._reset(message, session)
                return asked
            try:
                self._ask_model(asked)
            except BaseException:
                self.leave(asked)
                raise
        return asked

    async def reply(self, asked: Asked) -> dict[str, Any]:
        """What became of it, with the model's answer.

        Raises:
            Refused: it was dropped, or its actions are not safe to send.
            Whatever the model raises.
        """
        answered = None
        with self._bound(asked):
            if asked.work is not None:
                try:
                    answered = await asked.work.future
                finally:
                    self.leave(asked)
            reply = asked.reply if answered is None else self._answered(asked, answered)
            assert reply is not None, "what has no work is a reset"
            if self.recorder is not None:
                self.recorder.keep(asked.message, reply, asked.session)
        reply["request_id"] = asked.request_id
        if self.draining:
            reply["draining"] = True
        version = reply["model_version"]
        if answered is not None:
            seconds = time.perf_counter() - asked.arrived
            reply["server_timing"]["total_ms"] = seconds * 1000
            self.metrics.observe("stage_seconds", seconds, version=version, stage="total")
        outcome = "reset" if answered is None else "ok"
        self.metrics.count("requests", version=version, transport=asked.session.transport, outcome=outcome)
        return reply

    def leave(self, asked: Asked) -> None:
        """It has its answer, or nobody waits for it any more."""
        if asked.waits:
            assert asked.work is not None, "what waits, waits for the model"
            asked.waits = False
            self.batcher.leave(asked.work)
            asked.session.pending -= 1
            asked.session.last_heard = time.monotonic()

    def refused(self, refusal: Refused, transport: str) -> None:
        """Counts a refusal; the transports call it, as some are refused before they can be read."""
        outcome = f"refused_{refusal.status}"
        self.metrics.count("requests", version=self.served.model_version, transport=transport, outcome=outcome)

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
        if self.batcher.full:
            return "the queue is full"
        return self.alive()

    async def keep_house(self) -> None:
        """Lets go of silent robots' versions and keeps the gauges, until it is cancelled."""
        while True:
            self.sessions.release_silent()
            running = Counter(one.episode.served.model_version for one in self.sessions if one.episode is not None)
            loaded = {served.model_version for _, served in self.routes.roles()}
            for version in self._versions_seen - running.keys() - loaded:
                self.metrics.forget("running_episodes", version=version)
            self._versions_seen = running.keys() | loaded
            for version in self._versions_seen:
                self.metrics.set("running_episodes", running[version], version=version)
            self.metrics.set("ready", self.ready() is None)
            self.metrics.set("draining", self.draining)
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _reset(self, message: Mapping[str, Any], session: Session) -> dict[str, Any]:
        check_reset(message, self.contract)
        session.last_heard = time.monotonic()
        if self.draining:
            # The next episode begins where the robot connects again.
            served, episode_id = self.served, identifier(message, "episode_id") or ""
            session.end_episode()
        else:
            episode = session.begin(message, self.routes)
            self.metrics.count("episodes", version=episode.served.model_version)
            served, episode_id = episode.served, episode.id
        status = {"status": "reset successful", "episode_id": episode_id, **served.identity()}
        return {"action": None, "actions": None, **status}

    def _bound(self, asked: Asked) -> AbstractContextManager[None]:
        """Log lines carry what is known of it."""
        episode = asked.episode
        return logs.bound(
            request_id=asked.request_id,
            session_id=asked.session.id,
            robot_id=asked.session.robot,
            episode_id=None if episode is None else episode.id,
            version=None if episode is None else episode.served.model_version,
        )

    def _ask_model(self, asked: Asked) -> None:
        message, session = asked.message, asked.session
        before, now = session.episode, time.monotonic()
        requests, asked.is_batch = read_requests(message, self.contract)
        asked.episode = episode = session.continued(message, self.routes, now)
        if episode is not before:
            self.metrics.count("episodes", version=episode.served.model_version)
        served = episode.served
        logs.bind(episode_id=episode.id, robot_id=session.robot, version=served.model_version)
        if asked.is_batch and any(asks(item) for item in (message, *message["batch"])):
            raise BadObservation("a running chunk belongs to one observation: send it alone, not in a batch")
        work = Work(
            served=served,
            requests=requests,
            seeds=[secrets.randbits(32) if request.seed is None else request.seed for request in requests],
            session=session,
            arrived=now,
            deadline=now + self._deadline(message),
            running=read_running(message, served.contract, episode.last_chunk),
        )
        self.batcher.enter(work)
        asked.work, asked.waits = work, True
        session.pending += 1
        # At the input, for alarms, while the model has it: in a moment, as the model's thread cannot begin meanwhile.
        asked.looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, asked)

    def _look(self, asked: Asked) -> None:
        """Once: when its time has come, or when the model was faster."""
        work, looking, asked.looking = asked.work, asked.looking, None
        if looking is None or work is None:
            return
        looking.cancel()
        session = asked.session
        name = None if session.transport == "websocket" else identifier(asked.message, "session_id")
        asked.alarms = self.watches.look(f"{session.client}/{name or ''}", work.served, work.requests)

    def _answered(self, asked: Asked, answered: Answered) -> dict[str, Any]:
        """The reply with the model's actions, as far as the guard lets them through."""
        episode, work = asked.episode, asked.work
        assert episode is not None and work is not None, "what has an answer was asked"
        served, version = work.served, work.served.model_version
        self._look(asked)
        guarded = [
            self._guarded(actions, request, served)
            for actions, request in zip(answered.actions, work.requests, strict=True)
        ]
        sent = [one.actions for one in guarded]
        episode.observations += len(sent)
        episode.last_chunk = None if asked.is_batch else sent[0]
        self.metrics.count("observations", len(sent), version=version)
        if self.routes.shadow is not None:
            self.shadowing.compare(self.routes.shadow, work.requests, work.seeds, work.running, sent)
        actions, milliseconds = np.stack(sent) if asked.is_batch else sent[0], answered.model_seconds * 1000
        reply = {
            "action": actions,
            "actions": actions,
            "seed": work.seeds if asked.is_batch else work.seeds[0],
            "clipped_values": sum(one.clipped for one in guarded),
            "slowed_values": sum(one.slowed for one in guarded),
            "episode_id": episode.id,
            "route": episode.route,
            **served.identity(),
            "policy_timing": {"infer_ms": milliseconds},
            "server_timing": {
                "infer_ms": milliseconds,
                "queue_ms": answered.queue_seconds * 1000,
                "batch": answered.batch,
            },
        }
        return {**reply, "alarms": asked.alarms} if asked.alarms else reply

    def _guarded(self, actions: np.ndarray, request: Request, served: Served) -> Guarded:
        version = served.model_version
        try:
            guarded = guard(actions, served.contract, state=request.state, mode=self.guard_mode)
        except UnsafeAction as unsafe:
            self.metrics.count("unsafe_chunks", version=version, reason=unsafe.reason)
            raise
        for limit, values in (("position", guarded.clipped), ("velocity", guarded.slowed)):
            if values:
                self.metrics.count("guarded_values", values, version=version, limit=limit, action="clamped")
        return guarded

    def _deadline(self, message: Mapping[str, Any]) -> float:
        """Seconds from now within which the answer is of use to the robot.

        Raises:
            BadObservation
        """
        value = message.get("deadline_ms")
        if value is None:
            return self._deadline_seconds
        most = MAX_DEADLINE_SECONDS * 1000
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise BadObservation(f"deadline_ms must be a number of milliseconds over 0 and at most {most:.0f}")
        return float(value) / 1000
