"""Calls of Kubeflow Pipelines' API over a bad network: what is tried again, when, and for how long.

Answers are plain JSON: a server of another version may know values that the installed client does not.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from kfp_server_api.exceptions import ApiException

from model.errors import UserError

Object = dict[str, Any]

_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_DENIED = (301, 302, 303, 307, 308, 401, 403)  # redirections lead to a page for people to log in
_SOONEST_SECONDS = 60.0  # of Retry-After, which a proxy may overdo


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds.

    Attributes:
        api: for an API that does not answer, before it is given up.
        settle: after a failed call that may have been carried out, for what it made to be seen. A server that carries
            it out later than that makes a second one, which `once.keep_first` ends.
        claim: for a run of somebody who claimed its key, before that one counts as dead.
        poll: between two looks at a run that goes on.
        first, longest: pauses between attempts, doubled from the first to the longest.
    """

    api: float = 600.0
    settle: float = 20.0
    claim: float = 180.0
    poll: float = 5.0
    first: float = 0.5
    longest: float = 15.0


class Backoff:
    """Pauses that double, with jitter, until the patience is over."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._pause = patience.first
        self._since = time.monotonic()

    def wait(self, error: Exception, what: str) -> None:
        """Waits before the next attempt.

        Raises:
            UserError: the API has failed for longer than the patience.
        """
        if time.monotonic() - self._since > self._patience.api:
            raise UserError(
                f"{what}: Kubeflow Pipelines has not answered for {self._patience.api:.0f} s ({brief(error)}): look at "
                "its pod ml-pipeline, and give the command again. What was submitted is found and goes on."
            ) from error
        self.pause(min(retry_after(error), _SOONEST_SECONDS))

    def pause(self, at_least: float = 0.0) -> None:
        time.sleep(max(at_least, self._pause * random.uniform(0.5, 1.0)))
        self._pause = min(2 * self._pause, self._patience.longest)


def read(call: Callable[..., Any], what: str, patience: Patience, *arguments: Any, **options: Any) -> Object:
    """The answer of a call that can be repeated without harm, repeated while its failure may pass.

    Raises:
        UserError: the API refuses (401, 403), or is away for longer than the patience.
        ApiException: another answer of the API, for the caller to judge.
    """
    backoff = Backoff(patience)
    while True:
        try:
            return once(call, *arguments, **options)
        except (ApiException, urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
            if not passing(error):
                raise refusal(error, what) from error
            backoff.wait(error, what)


def once(call: Callable[..., Any], *arguments: Any, **options: Any) -> Object:
    """One attempt at a call of the generated client.

    Raises:
        json.JSONDecodeError: the answer was cut, or is not of this API.
    """
    timeout = (_CONNECT_SECONDS, _READ_SECONDS)
    response = call(*arguments, _preload_content=False, _request_timeout=timeout, **options)
    answer: Object = json.loads(response.data)
    return answer


def passing(error: Exception) -> bool:
    """Whether an error of a call may be gone when it is tried again."""
    if isinstance(error, ApiException):
        return error.status in (None, 0, 408, 429) or error.status >= 500
    return True


def untouched(error: Exception) -> bool:
    """Whether the server certainly did nothing: it was not reached, or says so."""
    if isinstance(error, ApiException):
        return error.status is not None and 400 <= error.status < 500
    return isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def retry_after(error: Exception) -> float:
    """Seconds that the server asks to wait; 0 where it does not, or gives a date."""
    headers = (error.headers if isinstance(error, ApiException) else None) or {}
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def brief(error: Exception) -> str:
    """One line of an error of the API: the server's own sentence where it gave one."""
    if not isinstance(error, ApiException):
        return f"{type(error).__name__}: {error}"
    try:
        said = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = error.reason or ""
    return " ".join(f"{error.status}: {said}".split())[:300]


def refusal(error: Exception, what: str) -> Exception:
    """What to raise for an error that does not pass: a sentence where the user can do something about it."""
    if isinstance(error, ApiException) and error.status in _DENIED:
        return UserError(
            f"{what}: Kubeflow Pipelines refuses it ({brief(error)}): log in again, set KF_PIPELINES_SA_TOKEN_PATH to "
            "a file with a token, or ask for the permission"
        )
    return error
