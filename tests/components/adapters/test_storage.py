"""What both storages promise: whole files, checked bytes, transfers that resume, clear errors."""

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.adapters import storage as storage_module
from components.adapters.storage import CorruptObject, FolderStorage, Storage
from model.errors import UserError


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage.from_url(tmp_path / "store")
    request.getfixturevalue("s3")
    return Storage.from_url("s3://artefacts/team a/runs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text("{}")
    (folder / "shard-0.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "empty").write_bytes(b"")
    (folder / "naïve name.txt").write_text("a b")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_round_trip(storage: Storage, tree: Path, tmp_path: Path) -> None:
    stored = storage.put_folder(tree, "packed/v1")
    assert {path: file.sha256 for path, file in stored.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in contents(tree).items()
    }
    storage.get_folder("packed/v1", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    assert [file.key for file in storage.list("packed/v1")] == sorted(f"packed/v1/{path}" for path in contents(tree))
    assert list(storage.list("packed/v")) == [], "a prefix is a folder, not the start of a name"
    assert storage.exists("packed/v1/empty") and not storage.exists("packed/v1")


def test_small_files_and_first_writer_wins(storage: Storage) -> None:
    assert storage.write_bytes("manifest.json", b"one")
    assert not storage.write_bytes("manifest.json", b"two", if_absent=True)
    assert storage.read_bytes("manifest.json") == b"one"
    assert storage.write_bytes("manifest.json", b"three")
    assert storage.read_bytes("manifest.json") == b"three"
    with ThreadPoolExecutor(4) as pool:
        wrote = list(pool.map(lambda n: storage.write_bytes("race", b"%d" % n, if_absent=True), range(4)))
    assert wrote.count(True) == 1 and storage.read_bytes("race") == b"%d" % wrote.index(True)


def test_missing_things_are_named(storage: Storage, tmp_path: Path) -> None:
    for action in (
        lambda: storage.read_bytes("absent/file"),
        lambda: storage.get_file("absent/file", tmp_path / "x"),
        lambda: storage.get_folder("absent/file", tmp_path / "x"),
    ):
        with pytest.raises(UserError, match=r"nothing is stored at .*absent/file"):
            action()
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".x*"))


def test_missing_file_of_a_manifest_leaves_nothing(storage: Storage, tree: Path, tmp_path: Path) -> None:
    wanted = {path: file.sha256 or "" for path, file in storage.put_folder(tree, "d").items()}
    with pytest.raises(UserError, match="nothing is stored at .*d/lost"):
        storage.get_folder("d", tmp_path / "back", sha256=wanted | {"lost": "0" * 64})
    assert not (tmp_path / "back").exists()


def test_changed_bytes_are_caught_and_the_old_file_stays(storage: Storage, tree: Path, tmp_path: Path) -> None:
    wanted = {path: file.sha256 or "" for path, file in storage.put_folder(tree, "d").items()}
    storage.write_bytes("d/shard-0.bin", bytes(10240))
    with pytest.raises(CorruptObject, match=r"d/shard-0.bin has sha256 .* recorded with"):
        storage.get_folder("d", tmp_path / "back", sha256=wanted)
    assert not (tmp_path / "back").exists()
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(CorruptObject):
        storage.get_file("d/shard-0.bin", tmp_path / "old", sha256=wanted["shard-0.bin"])
    assert (tmp_path / "old").read_bytes() == b"old"


def test_get_folder_leaves_exactly_what_is_stored(storage: Storage, tree: Path, tmp_path: Path) -> None:
    storage.put_folder(tree, "d")
    back = tmp_path / "back"
    storage.get_folder("d", back)
    (back / "stray").write_text("not stored")
    (back / "meta" / "info.json").write_text("edited")
    storage.get_folder(
        "d", back, sha256={path: hashlib.sha256(data).hexdigest() for path, data in contents(tree).items()}
    )
    assert contents(back) == contents(tree)
    assert not list(tmp_path.glob(".back*"))


@pytest.mark.parametrize("key", ["/etc/passwd", "a/../../b", "..", "", "a\\b", "a//b", "a/./b", "a\nb"])
def test_keys_stay_inside(storage: Storage, key: str) -> None:
    with pytest.raises(UserError, match="not a relative path"):
        storage.write_bytes(key, b"")


def test_unknown_scheme_and_empty_bucket() -> None:
    with pytest.raises(UserError, match="scheme 'gs'.*s3://bucket/prefix"):
        Storage.from_url("gs://bucket/x")
    with pytest.raises(UserError, match="names no bucket"):
        Storage.from_url("s3:///x")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://data/x", "names the machine 'data': a folder here is file:///path"),
        ("s3://bucket/a#b", "holds '[?]' or '#'"),
        ("s3://bucket/a?versionId=3", "holds '[?]' or '#'"),
        (" ", "names nothing"),
    ],
)
def test_an_address_of_which_a_part_would_be_left_out_is_refused(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Storage.from_url(url)


def test_file_url_is_the_folder(tmp_path: Path) -> None:
    Storage.from_url(f"file://{tmp_path}/a%20b").write_bytes("k", b"v")
    assert (tmp_path / "a b" / "k").read_bytes() == b"v"


def test_interrupted_folder_copy_resumes(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStorage(tmp_path / "store")
    wanted = {path: file.sha256 or "" for path, file in store.put_folder(tree, "d").items()}
    copied: list[str] = []
    real = shutil.copyfile

    def copyfile(source: Path, target: Path) -> Any:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(Path(source).name)
        return real(source, target)

    monkeypatch.setattr(storage_module.shutil, "copyfile", copyfile)
    with pytest.raises(KeyboardInterrupt):
        store.get_folder("d", tmp_path / "back", sha256=wanted)
    assert not (tmp_path / "back").exists()
    monkeypatch.setattr(storage_module.shutil, "copyfile", lambda a, b: (copied.append(Path(a).name), real(a, b))[1])
    store.get_folder("d", tmp_path / "back", sha256=wanted)
    assert contents(tmp_path / "back") == contents(tree)
    assert sorted(copied) == sorted(path.name for path in tree.rglob("*") if path.is_file()), "each file moved once"


def test_equal_files_are_not_written_again(tree: Path, tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    store.put_folder(tree, "d")
    before = {path: os.stat(path).st_ino for path in (tmp_path / "store").rglob("*") if path.is_file()}
    (tree / "shard-0.bin").write_bytes(b"changed")
    store.put_folder(tree, "d")
    after = {path: os.stat(path).st_ino for path in before}
    assert {path.name for path in before if before[path] != after[path]} == {"shard-0.bin"}


def test_full_disk_is_one_sentence(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage_module.shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"no space is left for .*store/k: free some"):
        FolderStorage(tmp_path / "store").put_file(tree / "shard-0.bin", "k")
    assert contents(tmp_path / "store") == {}, "no half file is left"


def test_a_file_system_without_hard_links_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets that are mounted as folders, and some shares, have none."""

    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(storage_module.os, "link", refused)
    store = FolderStorage(tmp_path / "store")
    with pytest.raises(
        UserError, match=r"store/k cannot be made: the file system there has no hard links.*s3://bucket"
    ):
        store.write_bytes("k", b"1", if_absent=True)
    assert store.write_bytes("k", b"1")
    assert contents(tmp_path / "store") == {"k": b"1"}, "no half file is left"


def test_a_file_in_place_of_a_folder_is_one_sentence(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    store = FolderStorage(tmp_path / "store")
    for write in (lambda: store.put_folder(tree, "d/e"), lambda: store.write_bytes("d/e/k", b"1")):
        with pytest.raises(UserError, match=r"store/d/e/.* cannot be written: something above it is a file; name a"):
            write()


def test_list_leaves_out_files_on_their_way(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path)
    store.write_bytes("a", b"1")
    (tmp_path / ".partial-killed").write_bytes(b"half")
    assert [file.key for file in store.list()] == ["a"]
