"""Calls of an API over a bad network: what is tried again, when, for how long, and what a person hears meanwhile.

The clients of Kubernetes and of Kubeflow Pipelines come from one generator, each with a class of errors of its own. A
`Service` names that class, and what a user does about what went wrong. Answers are plain JSON: a server of another
version may know values that the installed client does not.
"""

import http.client
import json
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import urllib3

from model.errors import UserError

Object = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10, 60
# The generated clients try nothing again and follow no redirection: both are decided here. (With `False` in its place
# the client of Kubeflow Pipelines breaks on an error of TLS: it decodes the body of an answer that never came.)
ONCE = urllib3.Retry(total=0, redirect=False, respect_retry_after_header=False)
_DENIED = (301, 302, 303, 307, 308, 401, 403)  # redirections lead to a page for people to log in
_SOONEST_SECONDS = 60.0  # of Retry-After, which a proxy may overdo
_TLS = ("CERTIFICATE_VERIFY_FAILED", "NO_CERTIFICATE_OR_CRL_FOUND", "WRONG_VERSION_NUMBER")  # ours or theirs is wrong
_FILE_ERRORS = (FileNotFoundError, IsADirectoryError, PermissionError)  # of the file with certificates
_QUIET_SECONDS = 5.0  # an API that was away for so long was restarted; then a person is told what is waited for


class WebPage(Exception):
    """What answered is a page for people: a proxy that starts the API, or another server at its address."""


@runtime_checkable
class ApiError(Protocol):
    """`ApiException` of a generated client."""

    status: int | None
    reason: str | None
    body: str | bytes | None
    headers: Mapping[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Service:
    """An API, and how its users are spoken to.

    Attributes:
        name: in sentences, as "Kubeflow Pipelines".
        error: `ApiException` of its client.
        away, denied, misaddressed: what to do when it does not answer, when it refuses (401, 403, a redirection), and
            when its address or its certificate is wrong.
    """

    name: str
    error: type[Exception]
    away: str
    denied: str
    misaddressed: str

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """All that a call can raise."""
        return self.error, urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError, WebPage

    def refusal(self, error: Exception, what: str) -> Exception:
        """What to raise for an error that does not pass: a sentence where the user can do something about it."""
        if isinstance(error, ApiError) and error.status in _DENIED:
            return UserError(f"{what}: {self.name} refuses it ({brief(error)}): {self.denied}.")
        if misaddressed(error) or isinstance(error, WebPage):
            return UserError(f"{what}: {self.name} is not where it should be ({brief(error)}): {self.misaddressed}.")
        return error


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds.

    Attributes:
        api: for an API that does not answer, before it is given up.
        first, longest: pauses between attempts, doubled from the first to the longest.
    """

    api: float = 600.0
    first: float = 0.5
    longest: float = 15.0


class Backoff:
    """Pauses that double, with jitter, until nothing went well for longer than the patience."""

    def __init__(self, service: Service, patience: Patience, wake: threading.Event | None = None) -> None:
        """`wake` ends a pause."""
        self._service, self._patience = service, patience
        self._wake = wake or threading.Event()
        self.reset()

    def reset(self) -> None:
        """Something came: the next pause is a short one."""
        self._pause = self._patience.first
        self._well = self._connected = time.monotonic()
        self._told = False

    def connected(self) -> None:
        self._connected = time.monotonic()

    def disconnected(self) -> None:
        """A connection that held is no failure, also when nothing came over it."""
        self._well = time.monotonic()
        if self._well - self._connected > self._patience.longest:
            self._pause = self._patience.first

    def wait(self, error: Exception, what: str) -> None:
        """Waits before the next attempt, and says so, once, where that takes long.

        Raises:
            UserError: nothing went well for longer than the patience.
        """
        away, patience, name = time.monotonic() - self._well, self._patience.api, self._service.name
        if away > patience:
            raise UserError(
                f"{what}: {name} has not answered for {patience:.0f} s ({brief(error)}): {self._service.away}."
            ) from error
        if away > _QUIET_SECONDS and not self._told:
            self._told = True
            said = f"{what}: {name} does not answer ({brief(error)}); tried again for {patience - away:.0f} s more"
            print(said, file=sys.stderr, flush=True)
        self.pause(min(retry_after(error), _SOONEST_SECONDS))

    def pause(self, at_least: float = 0.0) -> None:
        # Many clients that lost one server do not all come back at once.
        self._wake.wait(max(at_least, self._pause * random.uniform(0.5, 1.0)))
        self._pause = min(2 * self._pause, self._patience.longest)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Calls a service until it answers."""

    service: Service
    patience: Patience = field(default_factory=Patience)
    _answered: list[bool] = field(default_factory=list, repr=False)  # whether the API has, once; no lock is needed

    def backoff(self, wake: threading.Event | None = None) -> Backoff:
        return Backoff(self.service, self.patience, wake)

    def read(self, call: Callable[..., Any], what: str, *arguments: Any, **options: Any) -> Object:
        """The answer of a call that can be repeated without harm, repeated while its failure may pass.

        Raises:
            UserError: the API refuses, its address or certificate is wrong, another server is there, or it is away for
                too long.
            ApiException: another answer of the API, for the caller to judge.
        """
        backoff = self.backoff()
        while True:
            try:
                answer = once(call, *arguments, **options)
            except self.service.failures as error:
                if not passing(error) or (isinstance(error, WebPage) and not self._answered):
                    raise self.service.refusal(error, what) from error
                backoff.wait(error, what)
            else:
                self._answered[:] = [True]
                return answer

    def read_or_none(self, call: Callable[..., Any], what: str, *arguments: Any, **options: Any) -> Object | None:
        """As `read`; None where the API answers that there is no such thing."""
        try:
            return self.read(call, what, *arguments, **options)
        except self.service.error as error:
            if not isinstance(error, ApiError) or error.status != 404:
                raise
            return None


def once(call: Callable[..., Any], *arguments: Any, **options: Any) -> Object:
    """One attempt at a call of a generated client.

    Raises:
        json.JSONDecodeError: the answer was cut.
        WebPage: it is not of this API.
    """
    data: bytes = send(call, *arguments, **options).data
    if data.lstrip().startswith(b"<"):
        raise WebPage(data[:60].decode(errors="replace"))
    answer: Object = json.loads(data)
    return answer


def send(call: Callable[..., Any], *arguments: Any, seconds: float = READ_SECONDS, **options: Any) -> Any:
    """The response of one attempt, unread; `seconds` without a byte are a dead connection."""
    return call(*arguments, _preload_content=False, _request_timeout=(CONNECT_SECONDS, seconds), **options)


def passing(error: Exception) -> bool:
    """Whether an error of a call may be gone when it is tried again."""
    if isinstance(error, ApiError):
        return not error.status or error.status in (408, 429) or error.status >= 500
    return not misaddressed(error)


def untouched(error: Exception) -> bool:
    """Whether the server certainly did nothing: it was not reached, or says so."""
    if isinstance(error, ApiError):
        return error.status is not None and 400 <= error.status < 500
    return isinstance(_cause(error), (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def misaddressed(error: Exception) -> bool:
    """Whether an address is none, the server has no TLS, or its certificate or the file with ours is not accepted: the
    next attempt would end the same."""
    cause = _cause(error)
    if isinstance(cause, urllib3.exceptions.ProtocolError):  # a blank in the address
        return any(isinstance(inner, http.client.InvalidURL) for inner in cause.args)
    if not isinstance(cause, urllib3.exceptions.SSLError):
        return isinstance(cause, urllib3.exceptions.LocationValueError)
    inner = cause.args[0] if cause.args else None
    return inner.reason in _TLS if isinstance(inner, ssl.SSLError) else isinstance(inner, _FILE_ERRORS)


def retry_after(error: Exception) -> float:
    """Seconds that the server asks to wait; 0 where it does not, or gives a date."""
    headers = (error.headers if isinstance(error, ApiError) else None) or {}
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def brief(error: Exception) -> str:
    """One line of an error of an API: the server's own sentence where it gave one."""
    if not isinstance(error, ApiError):
        cause = _cause(error)
        return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = error.reason or ""
    return " ".join(f"{error.status}: {said}".split())[:300]


def _cause(error: Exception) -> Exception:
    """What `ONCE` wraps."""
    return error.reason or error if isinstance(error, urllib3.exceptions.MaxRetryError) else error
