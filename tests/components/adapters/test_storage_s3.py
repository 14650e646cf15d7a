"""S3 against a real protocol on loopback, with faults on the way."""

import os
from pathlib import Path

import pytest

from components.adapters.storage import CorruptObject, Storage
from components.adapters.storage_s3 import S3Storage
from model.errors import UserError
from model.progress import Silent


@pytest.fixture
def store(s3: object) -> S3Storage:
    storage = Storage.from_url("s3://artefacts/runs")
    assert isinstance(storage, S3Storage)
    return storage


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen as they do, without the seconds between them."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)


def test_server_errors_are_retried(s3, store: S3Storage) -> None:
    s3.faults.pending = ["503", "503"]
    assert store.write_bytes("k", b"v")
    s3.faults.pending = ["503"]
    assert store.read_bytes("k") == b"v"
    assert s3.faults.met == 3


def test_a_probe_asks_once_and_writes_nothing(s3, store: S3Storage) -> None:
    store.probe()
    assert s3.requests == ["HEAD /artefacts"]
    s3.faults.pending = ["503", "503"]
    with pytest.raises(UserError, match=r"answered 503"):
        store.probe()
    assert s3.faults.met == 1
    s3.faults.pending.clear()
    with pytest.raises(UserError, match="bucket 'elsewhere' does not exist"):
        Storage.from_url("s3://elsewhere/x").probe()


def test_a_folder_that_a_console_made_is_no_file(s3, store: S3Storage, tmp_path: Path) -> None:
    store.write_bytes("t/a", b"a")
    for key in ("runs/", "runs/t/", "runs/t/empty/"):
        s3.client.put_object(Bucket="artefacts", Key=key, Body=b"")
    assert [file.key for file in store.list()] == ["t/a"]
    store.get_folder("t", tmp_path / "t")
    assert [path.name for path in (tmp_path / "t").rglob("*")] == ["a"]


def test_cut_download_is_asked_again(s3, store: S3Storage, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    (tmp_path / "a").write_bytes(data)
    store.put_file(tmp_path / "a", "a")
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "GET"
    s3.faults.pending = ["cut"]
    store.get_file("a", tmp_path / "b")
    assert s3.faults.met == 1 and (tmp_path / "b").read_bytes() == data


def test_outage_is_one_sentence_and_loses_nothing(s3, store: S3Storage, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / name).write_text(name * 100)
    store.put_folder(tmp_path / "tree", "t")
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith("/t/c")
    s3.faults.pending = ["503"] * 50
    with pytest.raises(UserError, match=r"answered 503 \(503\) for s3://artefacts/runs/t/c.*run again"):
        store.get_folder("t", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    s3.faults.pending.clear()
    s3.requests.clear()
    store.get_folder("t", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a", "b", "c"]
    assert [request for request in s3.requests if request.endswith(("/t/a", "/t/b")) and "GET" in request] == []


def test_interrupted_upload_sends_only_what_is_missing(s3, store: S3Storage, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    store.put_folder(tmp_path, "t")
    (tmp_path / "b").write_text("B")
    s3.requests.clear()
    store.put_folder(tmp_path, "t")
    assert [request for request in s3.requests if request.startswith("PUT")] == ["PUT /artefacts/runs/t/b"]


def test_large_files_go_in_parts(s3, store: S3Storage, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(17 << 20))
    store.put_file(tmp_path / "large", "large")
    assert sum(request.startswith("PUT") for request in s3.requests) == 2
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").stat().st_size == 17 << 20


def test_bytes_rotted_in_the_bucket_are_caught(s3, store: S3Storage, tmp_path: Path) -> None:
    store.write_bytes("k", b"weights")
    kept = s3.client.head_object(Bucket="artefacts", Key="runs/k")["Metadata"]
    s3.client.put_object(Bucket="artefacts", Key="runs/k", Body=b"weighTs", Metadata=kept)
    for action in (
        lambda: store.read_bytes("k"),
        lambda: store.get_file("k", tmp_path / "k"),
        lambda: store.get_folder("", tmp_path / "all"),
    ):
        with pytest.raises(CorruptObject, match="s3://artefacts/runs/k has sha256"):
            action()
    assert not (tmp_path / "k").exists() and not (tmp_path / "all").exists()


def test_missing_bucket(s3, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    nowhere = Storage.from_url("s3://no-such-bucket/x")
    for action in (
        lambda: nowhere.exists("k"),
        lambda: nowhere.put_file(tmp_path / "f", "k"),
        lambda: nowhere.read_bytes("k"),
        lambda: list(nowhere.list()),
    ):
        with pytest.raises(UserError, match=rf"bucket 'no-such-bucket' does not exist at {s3.endpoint}: create it"):
            action()


def test_no_credentials(s3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no credentials for s3://artefacts/k: set AWS_ACCESS_KEY_ID"):
        Storage.from_url("s3://artefacts").exists("k")


def test_refused_and_unreachable_show_no_secret(s3, store: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "SignatureDoesNotMatch", "Message": "not-to-be-shown"}}, "GetObject")

    monkeypatch.setattr(store.client, "get_object", refuse)
    with pytest.raises(
        UserError, match=r"access to s3://artefacts/runs/k .*refused \(SignatureDoesNotMatch\)"
    ) as caught:
        store.read_bytes("k")
    assert "not-to-be-shown" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"no usable answer from storage at http://127.0.0.1:9 for"):
        Storage.from_url("s3://artefacts").exists("k")


def test_progress_counts_bytes(s3, store: S3Storage, tmp_path: Path) -> None:
    class Seen(Silent):
        last = (0, 0)

        def update(self, done: int, total: int, **figures: float) -> None:
            self.last = (done, total)

    seen = Seen()
    (tmp_path / "a").write_bytes(b"12345")
    store.put_folder(tmp_path, "t", progress=seen)
    assert seen.last == (5, 5)


def test_listing_tells_changed_bytes_of_equal_size(s3, store: S3Storage) -> None:
    store.write_bytes("k", b"one")
    (before,) = store.list()
    store.write_bytes("k", b"two")
    (after,) = store.list()
    assert before.size == after.size and before.etag != after.etag


def test_storages_share_a_client_until_the_credentials_change(s3, monkeypatch, tmp_path):
    def client():
        return Storage.from_url("s3://artefacts/any").client

    keys = tmp_path / "credentials"
    keys.write_text("[default]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    first = client()
    assert client() is first
    os.utime(keys, ns=(1, 1))
    second = client()
    assert second is not first and client() is second
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert client() is not second
