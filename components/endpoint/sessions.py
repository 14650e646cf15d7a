"""What the endpoint remembers of a robot: its connection, its episode, and the version that the episode is tied to.

An episode ends with a `reset`, a new `episode_id`, a disconnect, or 30 s of silence (DESIGN section 6). Within it every
answer comes from one version: a policy that is changed in the middle of a movement is a different policy halfway.
"""

import secrets
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.endpoint.errors import BadObservation, Unavailable
from components.endpoint.routing import PINNED, Routes
from components.endpoint.served import Served

SILENCE_SECONDS = 30.0
MAX_NAMED = 1024
_MAX_NAME = 128  # characters of an id that a client chooses


@dataclass(kw_only=True, eq=False)
class Episode:
    """One episode of one robot. `id` is the client's `episode_id`, or drawn here when it gives none."""

    id: str
    served: Served
    route: str  # routing.CHAMPION, CANARY or PINNED
    named: bool  # whether the client chose `id`
    observations: int = 0
    last_chunk: np.ndarray | None = None  # f32 [T,A], robot units, as it was sent: realtime.py goes on from it


@dataclass(kw_only=True, eq=False)
class Session:
    """One robot, as far as the endpoint knows: a websocket connection, or a `session_id` over HTTP.

    Attributes:
        id: of this session, in logs and recordings.
        client: whose requests are counted together against the limit of one client (429).
        transport: "websocket" or "http".
        robot: what the client calls itself (`robot_id`), if it says.
        pinned: the version that its client asks for; None: new episodes are routed.
        episode: the one that is going on; None between episodes.
        pending: requests that wait or run.
    """

    id: str
    client: str
    transport: str
    robot: str | None = None
    pinned: Served | None = None
    episode: Episode | None = None
    pending: int = 0
    last_heard: float = field(default_factory=time.monotonic)

    @property
    def episode_id(self) -> str | None:
        return None if self.episode is None else self.episode.id

    def silent(self, now: float) -> bool:
        return self.pending == 0 and now - self.last_heard > SILENCE_SECONDS

    def end_episode(self) -> None:
        """Lets go of the version."""
        self.episode = None

    def begin(self, message: Mapping[str, Any], routes: Routes) -> Episode:
        """A new episode: what a `reset` asks for.

        Raises:
            BadObservation: an `episode_id` or `robot_id` that is none.
        """
        given = identifier(message, "episode_id")
        self.robot = identifier(message, "robot_id") or self.robot
        name = given or secrets.token_hex(8)
        if self.pinned is not None:
            served, route = self.pinned, PINNED
        else:
            served, route = routes.of_episode(f"{self.robot or self.id}/{name}")
        self.episode = Episode(id=name, served=served, route=route, named=given is not None)
        return self.episode

    def continued(self, message: Mapping[str, Any], routes: Routes, now: float) -> Episode:
        """The episode that an observation belongs to; a new one when it begins one.

        Raises:
            BadObservation: an `episode_id` or `robot_id` that is none.
        """
        given, episode = identifier(message, "episode_id"), self.episode
        if episode is None or self.silent(now) or self.pinned not in (None, episode.served):
            return self.begin(message, routes)
        if given is not None and given != episode.id:
            if episode.named or episode.observations:
                return self.begin(message, routes)
            episode.id, episode.named = given, True  # the reset before it gave no name
        return episode


class SessionTable:
    """All sessions of the process."""

    def __init__(self) -> None:
        self._open: set[Session] = set()
        self._named: dict[Hashable, Session] = {}

    def __len__(self) -> int:
        return len(self._open) + len(self._named)

    def __iter__(self) -> Iterator[Session]:
        yield from self._open
        yield from self._named.values()

    def open(self) -> Session:
        """The session of a connection, until `close`."""
        name = secrets.token_hex(8)
        session = Session(id=name, client=name, transport="websocket")
        self._open.add(session)
        return session

    def close(self, session: Session) -> None:
        session.end_episode()
        self._open.discard(session)

    def of_request(self, message: Any, client: str, pinned: Served | None = None) -> Session:
        """The session of a request over HTTP: kept by its `session_id`, or for this request alone.

        Args:
            message: as decoded; what is no map has no session.
            client: the key's name or the peer's address. A session belongs to its client.
            pinned: the version that the request asks for; one that asks for none goes on with its episode.

        Raises:
            BadObservation: a `session_id` that is none.
            Unavailable: too many sessions.
        """
        name = identifier(message, "session_id") if isinstance(message, Mapping) else None
        if name is None:
            return Session(id=secrets.token_hex(8), client=client, transport="http", pinned=pinned)
        found = self._named.get((client, name))
        if found is None:
            if len(self._named) >= MAX_NAMED:
                raise Unavailable(f"{MAX_NAMED} sessions are open already", retry_after=int(SILENCE_SECONDS))
            found = self._named[client, name] = Session(id=name, client=client, transport="http")
        found.pinned = pinned
        return found

    def release_silent(self, now: float | None = None) -> None:
        """Ends the episodes of who was not heard for 30 s: a robot that is switched off does not hold a version."""
        now = time.monotonic() if now is None else now
        for session in [session for session in self if session.silent(now)]:
            session.end_episode()
        self._named = {key: session for key, session in self._named.items() if not session.silent(now)}


def identifier(message: Mapping[str, Any], key: str) -> str | None:
    """An id that a client chose, as a text; None when it gave none.

    Raises:
        BadObservation: neither a text of 1 to 128 printable characters nor a whole number.
    """
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME or not value.isprintable():
        raise BadObservation(f"{key} must be a text of 1 to {_MAX_NAME} printable characters, or a whole number")
    return value
