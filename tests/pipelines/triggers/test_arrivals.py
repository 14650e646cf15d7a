"""Which datasets lie in a bucket, by what digest, and when they are whole and at rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.adapters.storage import Storage
from model.errors import UserError
from pipelines.triggers.arrivals import Arrival, Debounce, arrivals, lack_of


def test_datasets_below_a_prefix_and_at_it(s3: Any, upload: Callable[[str], str], dataset: Path) -> None:
    upload("in/cubes")
    upload("in/deep/balls")
    store = Storage.from_url("s3://artefacts")
    store.write_bytes("in/README", b"no dataset")
    files = [path for path in dataset.rglob("*") if path.is_file()]
    found = arrivals("s3://artefacts/in")
    assert [arrival.address for arrival in found] == ["s3://artefacts/in/cubes", "s3://artefacts/in/deep/balls"]
    assert found[0].files == len(files) and found[0].bytes == sum(path.stat().st_size for path in files)
    assert found[0].digest == found[1].digest, "the same bytes elsewhere are the same dataset"
    assert arrivals("s3://artefacts/in/cubes/") == found[:1]
    assert arrivals("s3://artefacts/elsewhere") == []


def test_the_digest_changes_with_a_byte_and_not_with_what_is_hidden(s3: Any, upload: Callable[[str], str]) -> None:
    (before,) = arrivals(upload("cubes"))
    store = Storage.from_url("s3://artefacts/cubes")
    store.write_bytes(".cache/lock", b"1")
    assert arrivals("s3://artefacts/cubes") == [before]
    content = store.read_bytes("meta/info.json")
    store.write_bytes("meta/info.json", content.replace(b"30", b"31") if b"30" in content else content[::-1])
    (after,) = arrivals("s3://artefacts/cubes")
    assert after.bytes == before.bytes and after.digest != before.digest


def test_a_folder_is_no_bucket(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder of this machine, which pods do not see: give s3://bucket/prefix"):
        arrivals(str(tmp_path))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("data/", "lacks its table for episode [01]"),
        ("videos/", r"lacks the video of observation\.images\.\w+ for episode [01]"),
        ("meta/episodes", "meta/episodes.jsonl"),
    ],
)
def test_what_is_not_whole_says_what_it_lacks(s3: Any, upload: Callable[[str], str], part: str, said: str) -> None:
    address = upload("cubes")
    (arrival,) = arrivals(address)
    assert lack_of(arrival) is None
    (key, *_) = [
        item["Key"] for item in s3.client.list_objects_v2(Bucket="artefacts", Prefix=f"cubes/{part}")["Contents"]
    ]
    s3.client.delete_object(Bucket="artefacts", Key=key)
    lack = lack_of(arrival)
    assert lack is not None
    with pytest.raises(UserError, match=said):
        raise UserError(lack)


def test_it_is_at_rest_when_nothing_changed_for_a_while() -> None:
    def seen(digest: str) -> list[Arrival]:
        return [Arrival(address="s3://b/a", digest=digest, files=1, bytes=1)]

    now = 0.0
    debounce = Debounce(60.0, lambda: now)
    assert debounce.settled(seen("one")) == []
    now = 59.0
    assert debounce.settled(seen("one")) == []
    assert debounce.settled(seen("two")) == [], "it changed: the time begins again"
    now = 118.0
    assert debounce.settled(seen("two")) == []
    now = 119.0
    assert debounce.settled(seen("two")) == seen("two")
    assert Debounce(0.0).settled(seen("one")) == [], "once seen is not at rest"
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match=f"--settle is {wrong:g}: it must be 0 seconds or more"):
            Debounce(wrong)
