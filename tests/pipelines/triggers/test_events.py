"""Notifications of buckets, in the forms in which they come."""

import json
from typing import Any

import pytest

from model.errors import UserError
from pipelines.triggers.events import dataset_of, datasets_of


def record(key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": "robots"}, "object": {"key": key, "size": 3}}}


INFO = record("new/cubes%2B+1/meta/info.json")
DETAIL = {"bucket": {"name": "robots"}, "object": {"key": "new/cubes+ 1/meta/info.json"}}
FORMS = {
    "s3": {"Records": [INFO]},
    "minio": {"EventName": "s3:ObjectCreated:Put", "Records": [{**INFO, "eventName": "s3:ObjectCreated:Put"}]},
    "record": INFO,
    "argo events": {"notification": [INFO]},
    "argo events' list": [INFO],
    "argo events of sqs": {"body": {"Records": [INFO]}, "messageId": "1"},
    "sqs": {"body": json.dumps({"Records": [INFO]}), "messageId": "1"},
    "sns in sqs": {"body": json.dumps({"Type": "Notification", "Message": json.dumps({"Records": [INFO]})})},
    "eventbridge": {"detail-type": "Object Created", "source": "aws.s3", "detail": DETAIL},
    "several": [{"Records": [INFO]}, {"Records": [INFO]}],
}  # fmt: skip


@pytest.mark.parametrize("event", FORMS.values(), ids=FORMS)
def test_every_form_names_the_dataset(event: Any) -> None:
    assert datasets_of(json.dumps(event)) == ["s3://robots/new/cubes+ 1"]


def test_a_dataset_of_many_objects_is_named_once() -> None:
    keys = [f"cubes/videos/chunk-000/cam_high/episode_{number:06d}.mp4" for number in range(50)]
    keys += ["cubes/meta/info.json", "cubes/data/chunk-000/episode_000000.parquet", "balls/meta/info.json"]
    assert datasets_of(json.dumps({"Records": [record(key) for key in keys]})) == [
        "s3://robots/cubes",
        "s3://robots/balls",
    ]


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("data/cubes/meta/info.json", "s3://b/data/cubes"),
        ("meta/info.json", "s3://b"),
        ("cubes/meta/episodes/chunk-000/file-000.parquet", "s3://b/cubes"),
        ("cubes/README.md", None),
        ("data", None),
    ],
)
def test_which_dataset_an_object_belongs_to(key: str, address: str | None) -> None:
    assert dataset_of("b", key) == address


@pytest.mark.parametrize(
    "event",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "robots"},
        {"Records": []},
        {"Records": [record("cubes/meta/info.json", "ObjectRemoved:Delete")]},
        {"detail-type": "Object Deleted", "detail": DETAIL},
    ],
)
def test_what_is_no_new_object_names_none(event: Any) -> None:
    assert datasets_of(json.dumps(event)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://robots/cubes", "the notification is no JSON .*: pass it on as the bucket sent it"),
        ('{"key": "cubes"}', "the notification has key: it must have Records, notification or detail"),
        ("3", "the notification holds 3: it must be an object"),
        ('{"Records": [{"s3": {}}]}', "has no text at s3.bucket.name: pass it on as the bucket sent it"),
        ('{"Records": [{"s3": {"bucket": "b", "object": {"key": "a"}}}]}', "has no text at s3.bucket.name"),
        ('{"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 5}}}]}', "has no text at s3.object.key"),
        ('{"detail-type": "Object Created", "detail": 3}', "has no text at detail.bucket.name"),
        ('{"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}}}', "has no text at detail.object.key"),
        ('{"Message": "x"}', "the notification is no JSON"),
        ("[" * 5000 + "]" * 5000, "is nested too deep"),
    ],
)
def test_what_is_no_notification(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        datasets_of(text)
