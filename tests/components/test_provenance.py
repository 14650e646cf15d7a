"""A record says what a run was made from, and holds no secret; where it is kept, a change of it is seen."""

import json
import sys
from pathlib import Path

import pytest

from components import state
from components.adapters.versioning import Git
from components.provenance import find_seeds, image_digests, package_versions, provenance
from components.provenance_files import (
    keep_beside_bundle,
    of_this_process,
    read_beside_bundle,
    read_for_run,
    write_for_run,
)
from model.errors import UserError


def test_record_is_complete_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lingbot", "run", "--set", "seed=3"])
    parameters = {"seed": 3, "collect": {"seed": 3, "episodes": 4}, "evaluate": {"first_seed": 7, "tasks": ["a"]}}
    record = provenance(parameters, data={"tag": "data/demo-v1", "commit": "c" * 40})
    assert json.loads(json.dumps(record)) == record
    assert record["seeds"] == {"collect.seed": 3, "evaluate.first_seed": 7, "seed": 3}
    assert record["parameters"] == parameters and record["data"]["tag"] == "data/demo-v1"
    assert record["packages"]["numpy"] and record["hardware"]["cores"] >= 1 and record["hardware"]["memory"] > 1 << 28
    assert record["command"] == ["lingbot", "run", "--set", "seed=3"]
    assert (record["code"]["commit"] is None) or len(record["code"]["commit"]) == 40


def test_seeds_are_numbers_only() -> None:
    assert dict(find_seeds({"seed": None, "a": {"b": {"seed": 1}}, "seeds": [1]})) == {"a.b.seed": 1}


def test_secrets_of_the_command_line_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["lingbot", "--api-key", "abc", "--token=def", "--dataset", "https://me:ghi@host/x", "--set", "seed=1"]
    monkeypatch.setattr(sys, "argv", line)
    command = provenance({})["command"]
    assert not {"abc", "def", "ghi"} & set(
        " ".join(command).replace("=", " ").replace(":", " ").replace("@", " ").split()
    )
    assert command[-4:] == ["--dataset", "https://***@host/x", "--set", "seed=1"]


def test_images_are_named_by_digest_where_they_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "sha256:" + "a" * 64
    assert image_digests({"train": f"host/train@{digest}", "data": "host/data:1"}) == {
        "data": {"reference": "host/data:1", "digest": None},
        "train": {"reference": f"host/train@{digest}", "digest": digest},
    }
    monkeypatch.setenv("LINGBOT_IMAGE", f"host/train@{digest}")
    assert provenance({}, images={"data": "host/data:1"})["images"]["here"]["digest"] == digest


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A checkout with one commit, taken for the project's own; LINGBOT_HOME beside it."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    for name in ("LINGBOT_STORAGE", "LINGBOT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    git = Git(tmp_path / "tree")
    git.root.mkdir()
    git.run("init", "-q", "-b", "main")
    (git.root / "code.py").write_bytes(b"a = 1\nname = '\xe9'\n")
    git.commit_all("first", ["."])
    monkeypatch.setattr(state, "checkout", lambda: git.root)
    return git


def test_the_changes_of_a_dirty_tree_are_kept_and_can_be_applied(tree: Git, tmp_path: Path) -> None:
    (tree.root / "code.py").write_bytes(b"a = 2\nname = '\xe8'\n")
    (tree.root / "model").mkdir()
    (tree.root / "model" / "new.bin").write_bytes(bytes(range(256)))
    (tree.root / "key1").write_text("lbk_secret")  # `lingbot keys add robot-1 > key1`
    before = tree.run("status", "--porcelain")
    write_for_run("a-run", provenance({"seed": 1}))
    assert tree.run("status", "--porcelain") == before, "asking changes nothing"
    kept = read_for_run("a-run")
    assert kept is not None and kept["run"] == "a-run" and kept["code"]["changed"] == ["code.py", "model/new.bin"]
    assert "secret" not in kept["diff"]
    with tree.worktree("HEAD", tmp_path / "other") as other:
        other.apply(kept["diff"])
        assert (other.root / "code.py").read_bytes() == (tree.root / "code.py").read_bytes()
        assert (other.root / "model" / "new.bin").read_bytes() == bytes(range(256))
        assert other.state().dirty == kept["code"]["dirty"]


def test_a_clean_tree_has_no_changes_to_keep(tree: Git) -> None:
    (tree.root / "compare.html").write_text("what a command was told to write makes no run dirty")
    write_for_run("a-run", provenance({}))
    kept = read_for_run("a-run")
    assert kept is not None and kept["diff"] is None and kept["code"]["dirty"] is None
    assert read_for_run("another") is None


def test_a_step_in_a_pod_reads_the_run_s_record_from_the_storage(
    tree: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "share"))
    write_for_run("a-run", provenance({"seed": 5}))
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "pod"))
    monkeypatch.setenv("LINGBOT_RUN_ID", "a-run")
    assert of_this_process({"seed": 6})["parameters"] == {"seed": 5}
    monkeypatch.delenv("LINGBOT_RUN_ID")
    assert of_this_process({"seed": 6})["parameters"] == {"seed": 6}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This process runs in an image: no git, and the commit and the image in the environment. Returns that commit."""
    (tmp_path / "app").mkdir()
    monkeypatch.setattr(state, "checkout", lambda: tmp_path / "app")
    monkeypatch.setenv("LINGBOT_COMMIT", "c" * 40)
    monkeypatch.setenv("LINGBOT_IMAGE", f"host/train@sha256:{'a' * 64}")
    return "c" * 40


def test_in_an_image_the_code_is_the_commit_that_it_was_built_from(image: str, tmp_path: Path) -> None:
    record = provenance({})
    assert record["code"] == {"commit": image, "dirty": None, "changed": []}
    assert record["images"]["here"]["digest"] == f"sha256:{'a' * 64}"


def test_a_commit_that_is_none_is_refused(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_COMMIT", "main")
    with pytest.raises(UserError, match="LINGBOT_COMMIT is 'main': give the full hash"):
        provenance({})


def test_in_a_checkout_the_image_s_commit_does_not_count(tree: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_COMMIT", "c" * 40)
    assert provenance({})["code"]["commit"] == tree.run("rev-parse", "HEAD")


def test_a_pod_says_its_own_code_and_image_of_a_run_that_was_triggered_elsewhere(
    tree: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "share"))
    (tree.root / "code.py").write_text("a = 2\n")
    write_for_run("a-run", provenance({"seed": 5}, images={"data": "host/data:1"}))
    commit = request.getfixturevalue("image")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "pod"))
    monkeypatch.setenv("LINGBOT_RUN_ID", "a-run")
    record = of_this_process({})
    assert record["parameters"] == {"seed": 5}, "what was triggered"
    assert record["code"]["commit"] == commit and record["code"]["dirty"] is None and record["diff"] is None
    assert sorted(record["images"]) == ["data", "here"]
    triggered = read_for_run("a-run")
    assert triggered is not None and triggered["diff"] and triggered["code"]["dirty"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_record_beside_a_bundle_is_checked(
    tree: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    root = tmp_path / ("share" if shared else "home")
    if shared:
        monkeypatch.setenv("LINGBOT_STORAGE", str(root))
    bundle = "b" * 64
    digest = keep_beside_bundle(bundle, of_this_process({"seed": 1}))
    assert read_beside_bundle(bundle, digest)["parameters"] == {"seed": 1}
    path = root / "bundles" / f"{bundle}.provenance" / f"{digest}.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(UserError, match="was changed after it was written"):
        read_beside_bundle(bundle, digest)
    path.unlink()
    with pytest.raises(UserError, match=r"provenance of bundle bbbbbbbbbbbb is gone"):
        read_beside_bundle(bundle, digest)


def install(folder: Path, name: str, version: str) -> Path:
    described = folder / f"{name}-{version}.dist-info" / "METADATA"
    described.parent.mkdir(parents=True)
    described.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def test_the_package_that_is_imported_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(install(tmp_path / name, "arms", name)) for name in ("2", "1")])
    assert package_versions() == {"arms": "2"}


def test_what_setuptools_carries_for_itself_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(install(tmp_path / "setuptools" / "_vendor", "arms", "1"))])
    assert package_versions() == {}
