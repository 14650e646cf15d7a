"""Notifications of buckets, as S3, MinIO and what passes them on write them: which datasets they are about."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_plus

from components.ingest.step import FOLDERS
from model.errors import UserError

_CREATED = "ObjectCreated:"


def datasets_of(text: str) -> list[str]:
    """The addresses of the datasets that a notification is about, each once, in order.

    It may be S3's or MinIO's (`Records`), one record of it, Argo Events' (`notification`), EventBridge's (`detail`), or
    any of these as the text of a message of SNS or SQS. A notification of no new object, as S3 sends when it is set up,
    is about none.

    Raises:
        UserError: it is no JSON, or nothing that is known.
    """
    try:
        found = [dataset_of(bucket, key) for bucket, key in _objects(_parsed(text))]
    except RecursionError as error:
        raise UserError("the notification is nested too deep: pass it on as the bucket sent it.") from error
    return list(dict.fromkeys(address for address in found if address is not None))


def dataset_of(bucket: str, key: str) -> str | None:
    """The dataset that an object belongs to: the folder that holds its meta, data, videos or depth; None: to none."""
    parts = PurePosixPath(key).parts
    inside = [index for index, part in enumerate(parts[:-1]) if part in FOLDERS]
    return f"s3://{'/'.join((bucket, *parts[: inside[-1]]))}" if inside else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"the notification is no JSON ({error}): pass it on as the bucket sent it.") from error


def _text(event: Any, *path: str) -> str:
    """The text at a path of keys."""
    value = event
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise UserError(f"the notification has no text at {'.'.join(path)}: pass it on as the bucket sent it.")
    return value


def _objects(event: Any) -> Iterator[tuple[str, str]]:
    if isinstance(event, list):
        for one in event:
            yield from _objects(one)
        return
    if not isinstance(event, dict):
        raise UserError(f"the notification holds {event!r}: it must be an object, as the bucket sent it.")
    for name in ("Message", "body"):  # of SNS and SQS: a notification as text
        if name in event:
            yield from _objects(_parsed(event[name]) if isinstance(event[name], str) else event[name])
            return
    for name in ("Records", "notification"):
        if name in event:
            yield from _objects(event[name])
            return
    if "s3" in event:
        if str(event.get("eventName", _CREATED)).removeprefix("s3:").startswith(_CREATED):
            # Keys of these are encoded as in a form.
            yield _text(event, "s3", "bucket", "name"), unquote_plus(_text(event, "s3", "object", "key"))
    elif "detail" in event:
        if event.get("detail-type") == "Object Created":
            yield _text(event, "detail", "bucket", "name"), _text(event, "detail", "object", "key")
    elif event.get("Event") != "s3:TestEvent":
        raise UserError(
            f"the notification has {', '.join(sorted(event)) or 'nothing'}: it must have Records, notification "
            "or detail, as S3, MinIO, EventBridge and Argo Events send them."
        )
