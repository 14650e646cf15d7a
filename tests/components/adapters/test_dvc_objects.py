"""Large objects of DVC's cache on their way to a bucket. test_versioning.py has them beside the real DVC."""

from pathlib import Path

import pytest

from components.adapters import dvc_objects
from components.adapters.dvc_objects import upload_large
from model.errors import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two objects that count as large, a small one, and a folder's long list."""
    monkeypatch.setattr(dvc_objects, "LARGE", 1000)
    for name, size in (("aa/1", 4000), ("bb/2", 5000), ("cc/3", 10), ("dd/4.dir", 6000)):
        path = tmp_path / "files/md5" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([size % 256]) * size)
    return tmp_path


def stored(s3) -> dict[str, int]:
    listed = s3.client.list_objects_v2(Bucket="artefacts").get("Contents", [])
    return {item["Key"]: item["Size"] for item in listed}


def test_large_objects_are_brought_and_the_rest_is_left_to_dvc(cache: Path, s3) -> None:
    upload_large(cache, "s3://artefacts/some/where")
    assert stored(s3) == {"some/where/files/md5/aa/1": 4000, "some/where/files/md5/bb/2": 5000}
    body = s3.client.get_object(Bucket="artefacts", Key="some/where/files/md5/aa/1")["Body"].read()
    assert body == (cache / "files/md5/aa/1").read_bytes()


def test_what_is_there_is_not_sent_again(cache: Path, s3) -> None:
    s3.client.put_object(Bucket="artefacts", Key="files/md5/aa/1", Body=b"half")
    upload_large(cache, "s3://artefacts")
    s3.requests.clear()
    upload_large(cache, "s3://artefacts/")
    assert not [request for request in s3.requests if request.startswith("PUT")]
    assert stored(s3) == {"files/md5/aa/1": 4000, "files/md5/bb/2": 5000}


def test_a_bucket_that_refuses_is_told_with_its_answer(cache: Path, s3) -> None:
    s3.faults.when = lambda environ: environ["REQUEST_METHOD"] == "PUT"
    s3.faults.pending += ["503"] * 100
    with pytest.raises(UserError, match=r"s3://artefacts/dvc could not be written \(503\).*run again"):
        upload_large(cache, "s3://artefacts/dvc")
    assert stored(s3) == {}


def test_a_bucket_that_is_not_there_is_named(cache: Path, s3) -> None:
    with pytest.raises(UserError, match=r"s3://no-such-bucket/dvc could not be written \(NoSuchBucket\)"):
        upload_large(cache, "s3://no-such-bucket/dvc")
