"""Git and DVC as they are, in repositories made here."""

import json
from pathlib import Path

import pytest

from components.adapters import dvc_objects
from components.adapters.versioning import Dvc, Git, run_tool
from model.errors import UserError


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git = Git(tmp_path / "a réposi tory")
    git.root.mkdir()
    git.run("init", "-q", "-b", "main")
    (git.root / ".gitignore").write_text("ignored\n")
    (git.root / "code.py").write_text("a = 1\n")
    git.commit_all("first", ["."])
    return git


def test_state_sees_what_differs_and_nothing_else(git: Git) -> None:
    clean = git.state()
    assert clean.dirty is None and clean.changed == () and clean.commit == git.run("rev-parse", "HEAD")
    (git.root / "ignored").write_text("x")
    assert git.state() == clean
    (git.root / "code.py").write_text("a = 2\n")
    edited = git.state()
    (git.root / "new.py").write_text("b\n")
    added = git.state()
    assert edited.changed == ("code.py",) and added.changed == ("code.py", "new.py")
    assert len({None, edited.dirty, added.dirty}) == 3
    (git.root / "new.py").unlink()
    assert git.state() == edited, "equal differences have an equal digest"
    (git.root / "code.py").unlink()
    assert git.state().dirty not in {None, edited.dirty}
    git.run("checkout", "-q", "code.py")
    assert git.state() == clean


def test_new_files_count_where_they_are_asked_for(git: Git, tmp_path: Path) -> None:
    (git.root / "package").mkdir()
    (git.root / "key1").write_text("lbk_secret")
    assert git.state(new_in=("package", "missing")) == git.state(new_in=()) == git.state(without=["key1"])
    (git.root / "code.py").write_text("a = 2\n")
    (git.root / "package" / "[new] ü.py").write_text("b = 1\n")
    assert git.state(new_in=("package",)).changed == ("code.py", "package/[new] ü.py")
    kept = git.diff(new_in=("package",))
    assert "secret" not in kept and "secret" in git.diff()
    with git.worktree("HEAD", tmp_path / "other") as other:
        other.apply(kept)
        assert other.state() == git.state(new_in=("package",))


def test_outside_of_git(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    outside = Git(tmp_path / "plain")
    assert outside.state().commit is None and outside.state().dirty is None
    with pytest.raises(UserError, match="plain is no git checkout with a commit: clone the project"):
        outside.require_checkout()


def test_a_subfolder_of_a_checkout_is_none(git: Git) -> None:
    (git.root / "sub").mkdir()
    assert git.is_checkout and not Git(git.root / "sub").is_checkout


def test_tags_resolve_to_commits_and_are_not_moved(git: Git) -> None:
    first = git.run("rev-parse", "HEAD")
    git.tag("data/demo-v1", first, "a release")
    (git.root / "code.py").write_text("a = 3\n")
    second = git.commit_all("second", ["code.py"])
    git.run("tag", "data/demo-v2")  # a light one resolves as well
    assert git.tags("data/*") == {"data/demo-v1": first, "data/demo-v2": second}
    assert git.resolve("data/demo-v1") == first and git.resolve("main") == second
    assert git.resolve("data/absent-v1") is None and git.resolve("--all") is None
    with pytest.raises(UserError, match="'data/demo-v1' exists: a release is never moved"):
        git.tag("data/demo-v1", second, "again")
    assert git.resolve("data/demo-v1") == first


def test_worktree_is_apart_and_goes(git: Git) -> None:
    first = git.run("rev-parse", "HEAD")
    (git.root / "code.py").write_text("a = 'not committed'\n")
    with git.worktree(first) as tree:
        place = tree.root
        assert (place / "code.py").read_text() == "a = 1\n"
        (place / "made").write_text("1")
        commit = tree.commit_all("side", ["made"])
    assert not place.exists() and git.run("worktree", "list").count("\n") == 0
    assert git.resolve(commit) == commit and git.run("rev-parse", "main") == first
    assert git.file_at(commit, "made") == b"1" and git.file_at(first, "made") is None
    assert (git.root / "code.py").read_text() == "a = 'not committed'\n"
    with pytest.raises(ZeroDivisionError), git.worktree(first) as tree:
        place = tree.root
        raise ZeroDivisionError
    assert not place.exists()


def test_failures_say_what_the_tool_said(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"`git checkout nowhere` failed in .*did not match any file"):
        git.run("checkout", "nowhere")
    with pytest.raises(UserError, match="'no-such-tool' is not installed"):
        run_tool(["no-such-tool"], git.root)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "")
    (git.root / "code.py").write_text("a = 4\n")
    with pytest.raises(UserError, match=r"`git commit .*empty ident name"):
        git.commit_all("x", ["code.py"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (b"[core\nremote = x\n", r"DVC's settings cannot be read \(.*line 1.*correct .*/\.dvc/config"),
        (b"\xff\xfe", "DVC's settings cannot be read .*invalid start byte"),
        (b"[core]\nremote = x\n", "DVC's default remote is 'x', which has no address here: `dvc remote add --local x"),
    ],
)
def test_settings_of_dvc_that_lead_nowhere_are_one_sentence(tmp_path: Path, settings: bytes, said: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_bytes(settings)
    with pytest.raises(UserError, match=said):
        Dvc(tmp_path).remote_url()


def test_dvc_round_trip_and_a_flipped_byte_in_the_remote(git: Git, tmp_path: Path) -> None:
    dvc = Dvc(git.root)
    (git.root / ".dvc").mkdir()
    (git.root / ".dvc" / "config").touch()
    (git.root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    assert dvc.remote_url() is None
    dvc.use(remote=str(tmp_path / "remote"), cache=tmp_path / "cache")
    assert dvc.remote_url() == str(tmp_path / "remote")
    with pytest.raises(UserError, match="DVC cannot write down the address of its remote, /rémote, or of its cache"):
        dvc.use(remote="/rémote", cache=tmp_path / "cache")
    dvc.use(remote=str(tmp_path / "remote"), cache=tmp_path / "cache")
    (git.root / "data").mkdir()
    (git.root / "data" / "a.json").write_text(json.dumps([1, 2, 3]))
    dvc.run("add", "-q", "data")
    dvc.run("push", "-q")
    commit = git.commit_all("data", ["data.dvc", ".dvc/config", ".dvc/.gitignore"])
    with git.worktree(commit) as tree:
        fetched = Dvc(tree.root)
        fetched.use(remote=str(tmp_path / "remote"), cache=tmp_path / "other cache")
        fetched.run("pull", "-q")
        assert json.loads((tree.root / "data" / "a.json").read_text()) == [1, 2, 3]
    (stored,) = [path for path in (tmp_path / "remote").rglob("*") if path.is_file() and path.suffix != ".dir"]
    stored.chmod(0o644)
    stored.write_text("[1, 2, 4]")
    with git.worktree(commit) as tree:
        fetched = Dvc(tree.root)
        fetched.use(remote=str(tmp_path / "remote"), cache=tmp_path / "third cache")
        with pytest.raises(UserError, match="`dvc pull -q` failed"):
            fetched.run("pull", "-q")


@pytest.mark.slow
def test_dvc_keeps_data_in_a_bucket(git: Git, s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint and the credentials come from the AWS_* environment, as they do for our own storage."""
    monkeypatch.setattr(dvc_objects, "LARGE", 200)
    (git.root / ".dvc").mkdir()
    (git.root / ".dvc" / "config").touch()
    dvc = Dvc(git.root)
    dvc.use(remote="s3://artefacts/dvc", cache=tmp_path / "cache")
    (git.root / "data").mkdir()
    (git.root / "data" / "a.bin").write_bytes(bytes(range(256)))
    (git.root / "data" / "small.bin").write_bytes(bytes(range(10)))
    dvc.run("add", "-q", "data")
    s3.requests.clear()
    dvc.push("data.dvc")
    stored = s3.client.list_objects_v2(Bucket="artefacts", Prefix="dvc/")["Contents"]
    assert {item["Size"] for item in stored} > {10, 256}, "and the list of the folder"
    assert sum(request.startswith("PUT") for request in s3.requests) == 3, "the large one is not sent twice"
    dvc.use(remote="s3://artefacts/dvc", cache=tmp_path / "another cache")
    (git.root / "data" / "a.bin").unlink()
    dvc.run("pull", "-q", "--force")
    assert (git.root / "data" / "a.bin").read_bytes() == bytes(range(256))
