"""Stand-in of an OpenAI-compatible chat endpoint: slow and misbehaving on demand, it remembers what it was asked.

It runs on a thread of its own with its own event loop, on a free port of loopback.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.components.waiting import LONG

FAULTS = (
    "429",
    "500",
    "hang",
    "truncated",
    "schema",
    "prose",
)  # prose around valid JSON is no failure for a good reader
KEY = "a-key"
DRIP_SECONDS = 0.05


def valid_answer(kind: str) -> dict[str, Any]:
    if kind == "episode":
        return {"task": "move the red cube to the left", "objects": ["red cube"]}
    return {"sub_task": "pick up the red cube with the right arm", "verb": "pick up", "objects": ["red cube"]}


class ChatServer:
    """State: `asked` counts the requests of each question's digest, `answered` the valid answers that went out."""

    def __init__(
        self,
        *,
        seconds: float = 0.0,
        fault_share: float = 0.0,
        hang_seconds: float = 5.0,
        key: str = "",
        company: int = 1,
    ) -> None:
        self.seconds = seconds
        self.company = company  # nothing is answered before so many requests were there at once
        self.fault_share = fault_share
        self.hang_seconds = hang_seconds
        self.key = key
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.script: list[str | bytes | web.Response] = []  # of the next requests: a fault, a reply or its body
        self.always: str | None = None  # a fault of every request
        self.nonsense_about: str | None = None  # requests whose text has this get prose without JSON
        self.most_at_once = 0
        self._at_once = 0
        self._random = random.Random(0)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "invalid key"}, status=401)
        body = await request.json()
        if body["model"] != "qwen3-vl":
            return web.json_response({"error": f"no model {body['model']}"}, status=404)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            while self.most_at_once < self.company:
                await asyncio.sleep(0.01)
            return await self._answer(request, body)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        parts = [part for part in body["messages"][1]["content"] if "Your last answer" not in part.get("text", "")]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        self.asked[digest] += 1
        if len(self.bodies) < 100:
            self.bodies.append(body)
        fault = self._fault()
        if isinstance(fault, web.Response):
            return fault
        if isinstance(fault, bytes):
            return web.Response(body=fault, content_type="application/json")
        if fault is not None:
            self.faults[fault] += 1
        if fault == "429":
            return web.json_response({"error": "busy"}, status=429, headers={"Retry-After": "0"})
        if fault == "429 for long":
            return web.json_response({"error": "busy"}, status=429, headers={"Retry-After": "1"})
        if fault == "500":
            return web.Response(status=500, text="internal error")
        if fault == "drip":
            return await self._drip(request)
        await asyncio.sleep(self.hang_seconds if fault == "hang" else self.seconds)
        text = json.dumps(valid_answer(body["response_format"]["json_schema"]["name"]))
        asked = " ".join(part.get("text", "") for part in parts)
        if fault == "nonsense" or (self.nonsense_about is not None and self.nonsense_about in asked):
            text = "I see a robot in a kitchen."
        elif fault == "truncated":
            text = text[: len(text) // 2]
        elif fault == "schema":
            text = json.dumps({"label": "pick"})
        elif fault == "prose":
            text = f"Here is the label you asked for:\n```json\n{text}\n```\nTell me if it helps."
        if fault in (None, "prose") and self.nonsense_about is None:
            self.answered[digest] += 1
        usage = {"prompt_tokens": 1000, "completion_tokens": 50}
        choices = [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        return web.json_response({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage})

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        """Blanks, one after another, for as long as somebody listens: there is always a next byte, and no answer."""
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(self.hang_seconds / DRIP_SECONDS)):
            await response.write(b" ")
            await asyncio.sleep(DRIP_SECONDS)
        return response

    def _fault(self) -> str | bytes | web.Response | None:
        if self.script:
            return self.script.pop(0)
        if self.always is not None:
            return self.always
        return self._random.choice(FAULTS) if self._random.random() < self.fault_share else None


@contextmanager
def running(server: ChatServer) -> Iterator[ChatServer]:
    loop = asyncio.new_event_loop()
    started = threading.Event()
    application = web.Application(client_max_size=64 * 2**20)
    application.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(application, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        for task in asyncio.all_tasks(loop):  # answers that hang
            task.cancel()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, name="chat server", daemon=True)
    thread.start()
    assert started.wait(LONG)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
