"""One request to a chat endpoint, over HTTP: what its reply may be, and the key and the address that it needs."""

import asyncio
import re

import pytest
from aiohttp import web

from components.annotate.chat_endpoint import ChatEndpoint
from components.annotate.models import Passing, Reply
from components.annotate.parameters import Parameters
from components.annotate.prompts import segment_question
from components.annotate.vocabulary import Vocabulary
from components.annotate.writing import read_key
from model.errors import UserError
from tests.components.annotate.chat_server import ChatServer, running

QUESTION = segment_question(
    "segment 0", start=0.0, end=1.0, length=2.0, task="lift", summary="", frames=(), vocabulary=Vocabulary()
)


def reply_to(content: bytes | web.Response) -> Reply:
    server = ChatServer()
    server.script = [content]

    async def ask(url: str) -> Reply:
        model = ChatEndpoint(url, "qwen3-vl", key="", concurrency=1, timeout_seconds=60.0)
        try:
            return await model.ask(QUESTION, "")
        finally:
            await model.close()

    with running(server):
        return asyncio.run(ask(server.url))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>502</html>",
        b"null",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": "{}"}]}}]}',
        b'{"choices": [{"message": {"content": "{}"}}], "usage": "much"}',
        b'{"choices": [{"message": {"content": "{}"}}], "usage": {"prompt_tokens": "many"}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_reply_that_is_no_chat_completion_may_pass(content: bytes) -> None:
    with pytest.raises(Passing, match="the endpoint's reply is no chat completion"):
        reply_to(content)


@pytest.mark.parametrize("usage", [b"", b', "usage": null', b', "usage": {}', b', "usage": {"prompt_tokens": null}'])
def test_a_model_may_say_nothing_and_count_nothing(usage: bytes) -> None:
    assert reply_to(b'{"choices": [{"message": {"content": null}}]' + usage + b"}") == Reply(text="")


def test_a_request_that_is_refused_says_why_and_what_may_help() -> None:
    refusal = web.Response(status=400, text='{"message": "At most 1 image(s) may be provided"}')
    with pytest.raises(UserError, match=r"with 400 \(.*At most 1 image.*\): set annotate.frames"):
        reply_to(refusal)


def test_an_api_that_moved_is_not_followed_and_named() -> None:
    moved = web.Response(status=308, headers={"Location": "https://vlm.example/v1/chat/completions"})
    with pytest.raises(UserError, match=r"answers 308, the API is at https://vlm.example/v1/chat/completions: set"):
        reply_to(moved)


def test_a_key_from_a_file_may_end_with_a_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "a-key\n")
    assert read_key("MY_KEY") == "a-key"


@pytest.mark.parametrize("key", ["first\nsecond", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match=r"MY_KEY has at place \d of \d+ a character") as error:
        read_key("MY_KEY")
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["vlm:8000", "ftp://vlm/v1", "http://", "vlm/v1", "http://vlm:99999/v1", "http://[::1/v1", "http://vlm..lab/v1"],
)
def test_an_endpoint_that_is_no_address_is_named_before_anything_runs(address: str) -> None:
    with pytest.raises(UserError, match=f"annotate.endpoint is '{re.escape(address)}', which is no http address"):
        Parameters(writer="endpoint", endpoint=address, model="m")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout_seconds", float("inf")),
        ("timeout_seconds", 0.0),
        ("price_input", -1.0),
        ("price_output", float("nan")),
    ],
)
def test_a_figure_that_is_none_is_named_before_anything_runs(name: str, value: float) -> None:
    """Without an end one request would be waited for for ever; a summary with nan is no JSON."""
    with pytest.raises(UserError, match=f"annotate.{name} is {value}: it must be a number"):
        Parameters(**{name: value})
