"""Large files in parts: what an interrupted transfer has moved is not moved again, and no wrong byte gets through."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from components.adapters import storage_parts
from components.adapters.storage import CorruptObject, Storage
from components.adapters.storage_s3 import S3Storage
from model.errors import UserError
from model.progress import Silent

PART = 64 << 10  # S3 takes 5 MiB at least, and so would moto


@pytest.fixture
def store(s3: object, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    monkeypatch.setattr(storage_parts.time, "sleep", lambda seconds: None)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART)
    monkeypatch.setattr(storage_parts, "PART_BYTES", PART)
    monkeypatch.setattr("components.adapters.storage_s3.PART_BYTES", PART)
    storage = Storage.from_url("s3://artefacts/runs")
    assert isinstance(storage, S3Storage)
    return storage


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(random.Random(0).randbytes(3 * PART + 1000))  # four parts
    return path


def sent(s3: Any) -> list[int]:
    """Numbers of the parts that were sent, in any order."""
    found = [re.match(r"PUT /artefacts/runs/large\?.*partNumber=(\d+)", request) for request in s3.requests]
    return sorted(int(match.group(1)) for match in found if match)


def fetched(s3: Any) -> int:
    return sum(request.startswith("GET /artefacts/runs/large") for request in s3.requests)


def interrupt_upload(s3: Any, store: S3Storage, large: Path) -> None:
    s3.faults.when = lambda environ: "partNumber=3" in environ["QUERY_STRING"]
    s3.faults.pending = ["503"] * 50
    with pytest.raises(UserError, match="answered 503"):
        store.put_file(large, "large")
    s3.faults.pending.clear()
    s3.requests.clear()


def test_interrupted_upload_goes_on_with_the_missing_parts(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    interrupt_upload(s3, store, large)
    assert not store.exists("large")
    store.put_file(large, "large")
    assert 3 in sent(s3) and set(sent(s3)) <= {3, 4}, "4 had perhaps not begun"
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_parts_of_other_bytes_are_not_taken_over(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    interrupt_upload(s3, store, large)
    data = bytearray(large.read_bytes())
    data[5] ^= 1
    large.write_bytes(data)
    store.put_file(large, "large")
    assert sent(s3) == [1, 2, 3, 4]
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(data)


def test_upload_that_another_file_began_is_recorded_with_its_own_sha256(
    s3, store: S3Storage, large: Path, tmp_path: Path
) -> None:
    """The first parts are alike, so they are taken over, and with them the sha256 of the file that began."""
    interrupt_upload(s3, store, large)
    data = bytearray(large.read_bytes())
    data[2 * PART] ^= 1  # in the part that did not arrive
    large.write_bytes(data)
    store.put_file(large, "large")
    store.get_file("large", tmp_path / "back")  # checked against what the object records
    assert (tmp_path / "back").read_bytes() == bytes(data)


def test_lost_answer_to_the_completion(s3, store: S3Storage, large: Path) -> None:
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ["QUERY_STRING"]
    s3.faults.pending = ["lost"]
    store.put_file(large, "large")
    assert s3.faults.met == 1 and store.exists("large")
    assert sent(s3) == [1, 2, 3, 4]


def test_bytes_that_break_on_the_way_up_are_sent_again(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "PUT"
    s3.faults.pending = ["broken", "", "broken"]
    store.put_file(large, "large")
    store.write_bytes("small", b"small")
    (tmp_path / "file").write_bytes(b"file")
    s3.faults.pending = ["broken"]
    store.put_file(tmp_path / "file", "file")
    assert s3.faults.met == 3
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert store.read_bytes("file") == b"file"


def test_interrupted_download_goes_on_with_the_missing_parts(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    large.rename(tmp_path / "tree" / "large")
    large = tmp_path / "tree" / "large"
    store.put_folder(tmp_path / "tree", "")
    s3.faults.when = lambda environ: environ.get("HTTP_RANGE", "").startswith(f"bytes={2 * PART}-")
    s3.faults.pending = ["503"] * 50
    with pytest.raises(UserError, match="answered 503"):
        store.get_folder("", tmp_path / "back")
    s3.faults.pending.clear()
    s3.requests.clear()
    store.get_folder("", tmp_path / "back")
    assert 1 <= fetched(s3) <= 2
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["large"], "nothing hidden is left"
    assert (tmp_path / "back" / "large").read_bytes() == large.read_bytes()


def test_journal_of_another_object_is_not_believed(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    store.put_file(large, "large")
    s3.faults.when = lambda environ: environ.get("HTTP_RANGE", "").startswith(f"bytes={2 * PART}-")
    s3.faults.pending = ["503"] * 50
    with pytest.raises(UserError, match="answered 503"):
        store.get_file("large", tmp_path / "back")
    s3.faults.pending.clear()
    data = bytearray(large.read_bytes())
    data[0] ^= 1
    large.write_bytes(data)
    store.put_file(large, "large")
    s3.requests.clear()
    store.get_file("large", tmp_path / "back")
    assert fetched(s3) == 4, "all of it, once"
    assert (tmp_path / "back").read_bytes() == bytes(data)


def test_lost_parts_are_fetched_again(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    """The journal reached the disk before a power cut, the bytes did not."""
    store.put_file(large, "large")
    s3.faults.when = lambda environ: environ.get("HTTP_RANGE", "").startswith(f"bytes={2 * PART}-")
    s3.faults.pending = ["503"] * 50
    with pytest.raises(UserError, match="answered 503"):
        store.get_file("large", tmp_path / "back")
    s3.faults.pending.clear()
    (partial,) = [path for path in tmp_path.iterdir() if path.name == ".partial-back"]
    size = partial.stat().st_size
    partial.write_bytes(bytes(size))
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("times", [1, 50])
def test_flipped_byte_is_caught(s3, store: S3Storage, large: Path, tmp_path: Path, times: int) -> None:
    store.put_file(large, "large")
    s3.faults.when = lambda environ: environ.get("HTTP_RANGE", "").startswith("bytes=0-")
    s3.faults.pending = ["flip"] * times
    if times == 1:
        store.get_file("large", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == large.read_bytes()
    else:
        with pytest.raises(CorruptObject, match="s3://artefacts/runs/large has sha256"):
            store.get_file("large", tmp_path / "back")
        assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_object_that_is_replaced_while_it_is_read(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    store.put_file(large, "large")

    def replace(environ: dict[str, Any]) -> bool:
        if environ.get("HTTP_RANGE", "").startswith(f"bytes={2 * PART}-"):
            s3.faults.when = lambda environ: False
            s3.client.put_object(Bucket="artefacts", Key="runs/large", Body=b"another")
        return False

    s3.faults.when, s3.faults.pending = replace, ["never taken"]
    monkey = storage_parts._PARTS_AT_ONCE
    storage_parts._PARTS_AT_ONCE = 1
    try:
        with pytest.raises(UserError, match=r"s3://artefacts/runs/large was replaced while it was read: run again"):
            store.get_file("large", tmp_path / "back")
    finally:
        storage_parts._PARTS_AT_ONCE = monkey
    assert not (tmp_path / "back").exists()


def test_lost_answer_to_the_first_writer(s3, store: S3Storage) -> None:
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "PUT"
    s3.faults.pending = ["lost"]
    assert store.write_bytes("entry", b"mine", if_absent=True), "it was this one that wrote it"
    s3.faults.pending = ["lost"]
    assert not store.write_bytes("entry", b"mine", if_absent=True), "equal bytes of another writer"
    assert store.read_bytes("entry") == b"mine"


def test_half_of_all_calls_fail(s3, store: S3Storage, large: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "meta").mkdir(parents=True)
    for number in range(4):
        (tree / "meta" / f"{number}").write_bytes(random.Random(number).randbytes(1000))
    (tree / "large").write_bytes(large.read_bytes()[: PART + 1000])
    draws = random.Random(1)
    kinds = ["503", "429", "cut", "drop", "lost", "broken", "flip"]
    s3.faults.pending = [draws.choice(kinds) if draws.random() < 0.5 else "" for _ in range(20_000)]
    tries = 0
    for action in (lambda: store.put_folder(tree, "t"), lambda: store.get_folder("t", tmp_path / "back")):
        while True:
            tries += 1
            try:
                action()
                break
            except UserError as error:
                assert "run again" in str(error) or isinstance(error, CorruptObject)
                assert tries < 60
    assert s3.faults.met > 10
    found = {
        path.relative_to(tmp_path / "back"): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }
    assert found == {path.relative_to(tree): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_progress_of_one_large_file(s3, store: S3Storage, large: Path) -> None:
    class Seen(Silent):
        done: list[int] = []

        def update(self, done: int, total: int, **figures: float) -> None:
            assert total == large.stat().st_size
            self.done.append(done)

    seen = Seen()
    (large.parent / "tree").mkdir()
    large = large.rename(large.parent / "tree" / "large")
    store.put_folder(large.parent, "t", progress=seen)
    assert len(seen.done) == 5 and seen.done == sorted(seen.done) and seen.done[-1] == large.stat().st_size
