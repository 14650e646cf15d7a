"""Datasets come in byte for byte, from a folder and from a bucket, and what is none is refused in one sentence."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.ingest.step import INPUTS, NAME, Parameters, run, wanted
from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from model.progress import Silent
from tests.fixtures_lerobot import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp("source") / "set", "v3.0", lengths=(6, 5), depth=True)
    (root / "LICENSE").write_text("MIT")
    (root / "README.md").write_text("a set")
    (root / "notes.txt").write_text("not part of the dataset")
    (root / ".cache").mkdir()
    (root / ".cache/lock").write_text("")
    return root


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def expected(root: Path) -> dict[str, bytes]:
    left_out = {"notes.txt", ".cache/lock"}
    return {name: data for name, data in contents(root).items() if name not in left_out}


def ingest(output: Path, dataset: object, **parameters: bool) -> dict:
    return run({}, output, Parameters(dataset=str(dataset), **parameters), Silent())


def test_a_folder_comes_in_byte_for_byte(source: Path, output: Path) -> None:
    assert (NAME, INPUTS) == ("ingest", ())
    summary = ingest(output, source)
    assert contents(output) == expected(source)
    assert {key: summary[key] for key in ("version", "robot_type", "episodes", "frames", "depth")} == {
        "version": "v3.0",
        "robot_type": "aloha_sim",
        "episodes": 2,
        "frames": 11,
        "depth": True,
    }
    assert summary["files"] == len(expected(source))
    assert summary["bytes"] == sum(map(len, expected(source).values()))
    assert not any(
        path.stat().st_ino == (source / path.relative_to(output)).stat().st_ino for path in output.rglob("*")
    )


def test_a_killed_copy_is_completed_and_its_litter_removed(source: Path, output: Path) -> None:
    ingest(output, source)
    table = output / "data/chunk-000/file-000.parquet"
    table.write_bytes(table.read_bytes()[:100])
    (output / "meta/tasks.parquet").unlink()
    (output / "data/chunk-000/.partial-xyz").write_bytes(b"half")
    kept = (output / "meta/info.json").stat().st_mtime_ns
    ingest(output, source)
    assert contents(output) == expected(source)
    assert (output / "meta/info.json").stat().st_mtime_ns == kept


def test_links_take_no_space_when_asked_for(source: Path, output: Path) -> None:
    ingest(output, source, link=True)
    assert contents(output) == expected(source)
    video = "videos/observation.images.cam_high/chunk-000/file-000.mp4"
    assert os.path.samefile(output / video, source / video)


@contextlib.contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real S3 server on loopback."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    try:
        boto3.client("s3").create_bucket(Bucket="demos")
        yield "s3://demos"
    finally:
        server.stop()


def test_a_bucket_comes_in_byte_for_byte(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.adapters.storage import Storage

    with bucket(monkeypatch) as address:
        Storage.from_url(f"{address}/cubes").put_folder(source, "")
        summary = ingest(output, f"{address}/cubes")
        assert contents(output) == expected(source)
        assert summary["episodes"] == 2
        with pytest.raises(
            UserError, match=r"'s3://demos/none' is not a LeRobot dataset: there is no s3://demos/none/"
        ):
            ingest(output, f"{address}/none")


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ("", r"ingest.dataset is empty: give a LeRobot dataset with --dataset PATH"),
        ("{tmp}/absent", r"dataset '.*/absent': there is no such folder. Give the folder of a LeRobot dataset"),
        ("{tmp}/file", r"dataset '.*/file': it is a file. Give the folder"),
        ("{tmp}/empty", r"/empty is not a LeRobot dataset: no such folder, or it is empty. Give the folder that holds"),
        ("{tmp}/other", r"/other is not a LeRobot dataset: it has no meta/info.json. Give the folder that holds meta/"),
        ("https://host/set", r"storage 'https://host/set' has the scheme 'https': give a folder or s3://"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, output: Path, dataset: str, sentence: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match=sentence):
        ingest(output, dataset.format(tmp=tmp_path))
    assert contents(output) == {}


def test_an_unknown_version_is_refused_before_it_is_copied(source: Path, tmp_path: Path, output: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(source, root)
    text = (root / "meta/info.json").read_text().replace('"v3.0"', '"v1.6"')
    (root / "meta/info.json").write_text(text)
    with pytest.raises(UserError, match=r"meta/info.json: codebase_version 'v1.6' is none of v2.0, v2.1, v3.0"):
        ingest(output, root)
    assert contents(output) == {}


def test_what_belongs_to_a_dataset() -> None:
    assert all(map(wanted, ("meta/info.json", "depth/x/y.mkv", "LICENSE", "README.md", "NOTICE.txt")))
    assert not any(map(wanted, ("notes.txt", ".git/config", "meta/.DS_Store", "images/a.png", "data/.cache/x")))


def test_shared_datasets_come_in(shared: Path, output: Path) -> None:
    summary = ingest(output, shared / "datasets/gr1_sim_picknplace")
    assert (summary["version"], summary["episodes"], summary["frames"]) == ("v2.0", 5, 2096)
    assert (output / "LICENSE").is_file()
    assert len(LeRobotDataset.open(output).episodes) == 5
