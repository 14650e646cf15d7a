"""A model behind an OpenAI-compatible chat endpoint, such as a vLLM that serves Qwen3-VL.

Requests follow OpenAI's "create chat completion" with `image_url` parts as data URLs and `response_format`
`json_schema`, which vLLM answers with guided decoding.
"""

import base64
import email.utils
import io
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from components.annotate.models import Passing, Reply, Unreachable
from components.annotate.prompts import SYSTEM, Question
from model.errors import UserError

ANSWER_TOKENS = 400
IDLE_SECONDS = 4.0  # a connection at rest is left then: vLLM's server (uvicorn) closes it after 5
OK = 200
MOVED = (301, 302, 303, 307, 308)
BUSY = 429
LOCKED = (401, 403)
MISSING = 404
TIMED_OUT = 408
TOO_EARLY = 425


class ChatEndpoint:
    """Asks one model of one endpoint.

    Args:
        url: base of the API, such as http://vlm:8000/v1.
        model: the name that it is served under.
        key: sent as a Bearer token; "" sends none.
        concurrency: requests at once.
        timeout_seconds: for one request, from its first byte to the answer's last.
    """

    def __init__(self, url: str, model: str, *, key: str, concurrency: int, timeout_seconds: float) -> None:
        self.name = model
        self.concurrency = concurrency
        self._url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._opened: aiohttp.ClientSession | None = None

    async def ask(self, question: Question, complaint: str) -> Reply:
        body = io.BytesIO(json.dumps(self._body(question, complaint)).encode())  # sent in parts, whatever its size
        try:
            async with self._session().post(
                f"{self._url}/chat/completions", data=body, allow_redirects=False
            ) as response:
                content = await response.read()
        except TimeoutError as error:
            raise Passing(f"no answer within {self._timeout:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{self._url} cannot be reached: {error.os_error.strerror or error}") from error
        except aiohttp.ClientError as error:
            raise Passing(f"{self._url} breaks the connection: {error or type(error).__name__}") from error
        return self._read(response.status, response.headers, content)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _session(self) -> aiohttp.ClientSession:
        """Made at the first request: it belongs to the event loop that asks."""
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.concurrency, keepalive_timeout=IDLE_SECONDS),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                trust_env=True,
            )
        return self._opened

    def _body(self, question: Question, complaint: str) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for frame in question.frames:
            parts.append({"type": "text", "text": f"{frame.camera} at {frame.seconds:.2f} s"})
            data = "data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode()
            parts.append({"type": "image_url", "image_url": {"url": data}})
        parts.append({"type": "text", "text": question.text})
        if complaint:
            parts.append({"type": "text", "text": f"Your last answer did not do: {complaint}. Answer again."})
        return {
            "model": self.name,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}],
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": question.kind, "schema": question.schema, "strict": True},
            },
        }

    def _read(self, status: int, headers: Mapping[str, str], content: bytes) -> Reply:
        if status in LOCKED:
            raise UserError(
                f"{self._url} answers {status} to the key that was sent: set the environment variable that "
                "annotate.api_key_variable names to a key it takes."
            )
        if status == MISSING:
            raise UserError(
                f"{self._url} answers 404 for the model '{self.name}' ({_sentence(content)}): set annotate.endpoint "
                "to the API's base URL, as in http://vlm:8000/v1, and annotate.model to a name that its /models lists."
            )
        if status in (BUSY, TIMED_OUT, TOO_EARLY) or status >= 500:
            raise Passing(f"the endpoint answers {status}", retry_after=_seconds(headers.get("Retry-After", "")))
        if status in MOVED:
            raise UserError(
                f"{self._url} answers {status}, the API is at {headers.get('Location', 'no address that it tells')}: "
                "set annotate.endpoint to its base URL there."
            )
        if status != OK:
            raise UserError(
                f"{self._url} refuses the request with {status} ({_sentence(content)}): set annotate.frames and "
                "annotate.frame_size to what the model takes, or serve it with room for more."
            )
        try:
            answer = json.loads(content)
            text = answer["choices"][0]["message"]["content"] or ""  # null where the model said nothing
            usage = answer.get("usage") or {}  # some servers count nothing
            used = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
            if not isinstance(text, str):
                raise TypeError(f"content is {type(text).__name__}")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Passing(f"the endpoint's reply is no chat completion: {_text(content)[:80]!r}") from error
        return Reply(text=text, input_tokens=used[0], output_tokens=used[1])


def _seconds(retry_after: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number, or a date; None without."""
    given = retry_after.strip()
    if given.isdigit():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _sentence(content: bytes) -> str:
    return " ".join(_text(content).split())[:200] or "no reason given"


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
