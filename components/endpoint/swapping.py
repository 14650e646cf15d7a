"""Following the alias: a new version is fetched, verified, loaded beside the old one, rehearsed, and swapped in.

What was accepted, and episodes that run, keep their version; it is let go of with the last of them. A version that is
damaged, has another contract, or does not reproduce its golden actions is refused, the old one serves on, and it is
tried again after ever longer pauses. While the registry is away nothing changes.
"""

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from components.endpoint.resolve import load_target
from components.endpoint.routing import Routes
from components.endpoint.served import Served
from components.endpoint.service import Service
from components.routing_state import Routing, RoutingError, RoutingUnavailable, Target, read_routing
from components.servings import RENEW_SECONDS, Serving, report_serving
from model.errors import UserError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 10.0, 600.0
# What a robot was told when it connected. A version that differs here can be served by another process only.
_PROMISED = ("robot", "cameras", "state", "action", "horizon", "control_hz")
logger = logging.getLogger("lingbot.endpoint")


@dataclass(kw_only=True)
class _Refusal:
    """A version that could not be served, and when it is tried again."""

    reason: str
    pause: float
    again_at: float


class Follower:
    """Keeps a service's routes at what the registry says. `run` it beside the server."""

    def __init__(
        self,
        service: Service,
        *,
        model: str,
        alias: str,
        poll_seconds: float = 5.0,
        read: Callable[[str, str], Routing] = read_routing,
        load: Callable[[str, str, Target], Served] = load_target,
        endpoint: str = "",
        report: Callable[[Serving], None] = report_serving,
        remember: Callable[[str, str, Target], None] | None = None,
    ) -> None:
        """
        Args:
            service: whose routes are kept.
            model, alias: what is followed.
            poll_seconds: between two questions to the registry.
            read, load: of the registry, and of a version.
            endpoint: this process, among others, in the record of what it serves; empty: it keeps none.
            report: keeps that record, which is compared with the ledger.
            remember: keeps the champion, for a start while the registry is away.
        """
        self._endpoint, self._report = endpoint, report
        self._reported: tuple[Serving | None, float] = None, 0.0
        self._remember = remember
        self._remembered: Target | None = None
        self._since = _utc()
        self._service, self._model, self._alias = service, model, alias
        self._poll_seconds, self._read, self._load = poll_seconds, read, load
        self._answered_at = time.monotonic()
        self._loaded: WeakValueDictionary[tuple[str, str], Served] = WeakValueDictionary()
        self._refusals: dict[tuple[str, str], _Refusal] = {}
        self._said: dict[str, set[str]] = {}
        self._hint = asyncio.Event()
        for _, served in service.routes.roles():
            self._loaded[served.model_version, served.digest] = served

    def look_now(self) -> None:
        """A hint that something changed. The registry is asked all the same; a hint alone moves nothing."""
        self._hint.set()

    def status(self) -> dict[str, Any]:
        """For operators: what is served, what was refused and why, and how old the registry's last answer is."""
        routes = self._service.routes
        return {
            "champion": routes.champion.identity(),
            "canary": None if routes.canary is None else {**routes.canary.identity(), "share": routes.share},
            "shadow": None if routes.shadow is None else routes.shadow.identity(),
            "refused": {version: refusal.reason for (version, _), refusal in self._refusals.items()},
            "registry_stale_seconds": time.monotonic() - self._answered_at,
        }

    async def run(self) -> None:
        """Until it is cancelled. The polls are jittered: a hundred endpoints do not ask at once."""
        while True:
            try:
                await self.look()
                await self._report_serving()
            except Exception:
                # Whatever breaks here must not end the following, nor what is served.
                logger.exception("following '%s' of %s failed; what is served stays", self._alias, self._model)
                self._service.metrics.count("swaps", result="failed")
            self._service.metrics.set("registry_stale_seconds", time.monotonic() - self._answered_at)
            try:
                await asyncio.wait_for(self._hint.wait(), self._poll_seconds * random.uniform(0.8, 1.2))
            except TimeoutError:
                continue
            self._hint.clear()

    async def look(self) -> None:
        """Asks the registry once and does what follows from it."""
        try:
            routing = await asyncio.to_thread(self._read, self._model, self._alias)
        except RoutingError as error:
            if not isinstance(error, RoutingUnavailable):
                self._answered_at = time.monotonic()
            self._say_once("routing", [f"{error}; version {self._service.served.model_version} is served on"])
            return
        self._answered_at = time.monotonic()
        self._say_once("routing", routing.drift)
        champion = await self._get(routing.champion)
        if champion is None:
            self._end_others(routing)
            return
        old = self._service.routes
        if champion is not old.champion:
            self._swap(Routes(champion=champion, canary=None, share=0.0, shadow=old.shadow))
        await self._keep(routing.champion)
        canary = None if routing.canary is None else await self._get(routing.canary)
        shadow = None if routing.shadow is None else await self._get(routing.shadow)
        share = routing.share if canary is not None else 0.0
        old = self._service.routes
        if (old.canary, old.share, old.shadow) != (canary, share, shadow):
            self._swap(Routes(champion=champion, canary=canary, share=share, shadow=shadow))

    def _end_others(self, routing: Routing) -> None:
        """Beside a champion that is refused nobody new is taken up, but who was ended gets no episode more."""
        old = self._service.routes
        canary = old.canary if _is_target(old.canary, routing.canary) else None
        shadow = old.shadow if _is_target(old.shadow, routing.shadow) else None
        share = routing.share if canary is not None else 0.0
        if (canary, share, shadow) != (old.canary, old.share, old.shadow):
            self._swap(Routes(champion=old.champion, canary=canary, share=share, shadow=shadow))

    async def _keep(self, champion: Target) -> None:
        """For a start while the registry is away; once a version."""
        if self._remember is None or champion == self._remembered:
            return
        self._remembered = champion
        try:
            await asyncio.to_thread(self._remember, self._model, self._alias, champion)
        except OSError as error:
            logger.error("version %s is not kept for a start without the registry: %s", champion.version, error)

    async def _report_serving(self) -> None:
        """Writes down what is served, when that changed and while it goes on."""
        if not self._endpoint:
            return
        routes = self._service.routes
        serving = Serving(
            endpoint=self._endpoint,
            model=self._model,
            alias=self._alias,
            version=routes.champion.model_version,
            digest=routes.champion.digest,
            since=self._since,
            canary=None if routes.canary is None else routes.canary.model_version,
            shadow=None if routes.shadow is None else routes.shadow.model_version,
        )
        reported, at = self._reported
        if serving == reported and time.monotonic() - at < RENEW_SECONDS:
            return
        try:
            await asyncio.to_thread(self._report, serving)
        except UserError as error:
            self._say_once("record", [str(error)])
            return
        self._say_once("record", [])
        self._reported = serving, time.monotonic()

    async def _get(self, target: Target) -> Served | None:
        """A version, ready to serve; None when it is refused."""
        key = target.version, target.digest
        served = self._loaded.get(key)
        if served is not None:
            return served
        earlier = self._refusals.get(key)
        if earlier is not None and time.monotonic() < earlier.again_at:
            return None
        try:
            served = await asyncio.to_thread(self._load, self._model, self._alias, target)
            check_promise(self._service.served, served)
            await self._service.rehearse(served)
        except Exception as error:
            # Of whatever kind, a full disk for instance: else it would be fetched anew at every poll.
            foreseen = isinstance(error, UserError)
            reason = str(error) if foreseen else f"{type(error).__name__}: {error}"
            pause = min(_LONGEST_PAUSE_SECONDS, earlier.pause * 2) if earlier else _FIRST_PAUSE_SECONDS
            self._refusals[key] = _Refusal(reason=reason, pause=pause, again_at=time.monotonic() + pause)
            self._service.metrics.count("swaps", result="refused")
            logger.error(
                "version %s is refused, version %s is served on: %s",
                target.version,
                self._service.served.model_version,
                reason,
                exc_info=None if foreseen else error,
            )
            return None
        self._refusals.pop(key, None)
        self._loaded[key] = served
        return served

    def _swap(self, new: Routes) -> None:
        if new.champion is not self._service.served:
            self._since = _utc()
        self._service.route(new)
        self._service.metrics.count("swaps", result="swapped")
        logger.warning(
            "serving version %s%s%s",
            new.champion.model_version,
            "" if new.canary is None else f", canary {new.canary.model_version} for {new.share:.0%} of new episodes",
            "" if new.shadow is None else f", shadow {new.shadow.model_version}",
        )

    def _say_once(self, about: str, sentences: list[str] | tuple[str, ...]) -> None:
        """Each sentence when it is new, not at each poll: `sentences` are all that there is to say about it now."""
        for sentence in sentences:
            if sentence not in self._said.get(about, ()):
                logger.error("%s", sentence)
        self._said[about] = set(sentences)


def _is_target(served: Served | None, target: Target | None) -> bool:
    if served is None or target is None:
        return False
    return (served.model_version, served.digest) == (target.version, target.digest)


def _utc() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check_promise(serving: Served, candidate: Served) -> None:
    """Whether robots that are connected can be answered by the candidate.

    Raises:
        UserError: its contract differs from the one that they were told.
    """
    ours, theirs = serving.contract.described, candidate.contract.described
    differing = [name for name in _PROMISED if ours[name] != theirs[name]]
    if differing:
        raise UserError(
            f"version {candidate.model_version} has another contract ({', '.join(differing)}) than version "
            f"{serving.model_version}, which robots were told when they connected: restart the endpoint to serve it"
        )
