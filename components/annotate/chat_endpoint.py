"""A model behind an OpenAI-compatible chat endpoint, such as a vLLM that serves Qwen3-VL.

Requests follow OpenAI's "create chat completion" with `image_url` parts as data URLs and `response_format`
`json_schema`, which vLLM answers with guided decoding.
"""

import base64
import email.utils
import time
from typing import Any

import httpx

from components.annotate.models import Passing, Reply
from components.annotate.prompts import SYSTEM, Question
from model.errors import UserError

ANSWER_TOKENS = 400
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
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A client a request at once: a shared pool looks at each of its connections for each request, which is a third
        # of the CPU time at 16.
        limits, certificates = httpx.Limits(max_connections=1, max_keepalive_connections=1), httpx.create_ssl_context()
        self._clients = [
            httpx.AsyncClient(headers=headers, timeout=timeout_seconds, limits=limits, verify=certificates)
            for _ in range(concurrency)
        ]

    async def ask(self, question: Question, complaint: str) -> Reply:
        client = self._clients.pop()
        try:
            response = await client.post(f"{self._url}/chat/completions", json=self._body(question, complaint))
        except httpx.TimeoutException as error:
            raise Passing(f"no answer within {self._timeout:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise UserError(
                f"annotate.endpoint is '{self._url}', which is no address ({error}): give the base URL of a chat API, "
                "as in http://vlm:8000/v1."
            ) from error
        except httpx.HTTPError as error:
            raise Passing(f"{self._url} cannot be reached: {error or type(error).__name__}") from error
        finally:
            self._clients.append(client)
        return self._read(response)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

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

    def _read(self, response: httpx.Response) -> Reply:
        status = response.status_code
        if status in LOCKED:
            raise UserError(
                f"{self._url} answers {status} to the key that was sent: set the environment variable that "
                "annotate.api_key_variable names to a key it takes."
            )
        if status == MISSING:
            raise UserError(
                f"{self._url} answers 404 for the model '{self.name}' ({_sentence(response)}): set annotate.endpoint "
                "to the API's base URL, as in http://vlm:8000/v1, and annotate.model to a name that its /models lists."
            )
        if status in (BUSY, TIMED_OUT, TOO_EARLY) or status >= 500:
            raise Passing(f"the endpoint answers {status}", retry_after=_retry_after(response))
        if status != httpx.codes.OK:
            raise UserError(f"{self._url} refuses the request with {status}: {_sentence(response)}")
        try:
            answer = response.json()
            text = answer["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise Passing(f"the endpoint's reply is no chat completion: {response.text[:80]!r}") from error
        usage = answer.get("usage") or {}
        return Reply(
            text=text or "",
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number, or a date."""
    given = response.headers.get("retry-after", "").strip()
    if given.isdigit():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _sentence(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200] or "no reason given"
