"""Versions of code and data: git and DVC, through their own commands, with their telemetry off.

A tag can be moved, so nothing here is recorded by its tag alone: a tag is resolved to a commit, and the commit holds
the digests.
"""

import contextlib
import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import UserError

TELEMETRY_OFF = {
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeState:
    """What code a run ran with.

    Attributes:
        commit: full hash of HEAD; None outside of a git checkout (an image, an unpacked archive).
        dirty: sha256 over everything that differs from the commit and counts; None when nothing does.
        changed: the paths that differ.
    """

    commit: str | None
    dirty: str | None
    changed: tuple[str, ...] = ()


class Git:
    """A git checkout. Every failure that a user can cause is a UserError with what git said."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Standard output of a git command, without the last newline.

        Raises:
            UserError: git is missing or the command failed.
        """
        return run_tool(["git", *arguments], self.root, environment=environment)

    def succeeds(self, *arguments: str) -> bool:
        """Whether a git command ends with code 0: for questions, not for work."""
        try:
            finished = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, check=False)
        except FileNotFoundError:
            return False
        return finished.returncode == 0

    @property
    def is_checkout(self) -> bool:
        """Whether `root` is the top of a git working tree that has a commit."""
        if not self.succeeds("rev-parse", "--verify", "-q", "HEAD"):
            return False
        return Path(self.run("rev-parse", "--show-toplevel")).resolve() == self.root.resolve()

    def require_checkout(self) -> None:
        """UserError unless `root` is a git checkout."""
        if not self.is_checkout:
            raise UserError(f"{self.root} is no git checkout with a commit: clone the project to work with its tags.")

    def require_identity(self) -> None:
        """UserError unless git knows who commits here."""
        if not self.succeeds("var", "GIT_COMMITTER_IDENT") or not self.succeeds("var", "GIT_AUTHOR_IDENT"):
            raise UserError(
                "git does not know who releases: `git config --global user.name NAME` and "
                "`git config --global user.email ADDRESS` say it"
            )

    def state(self, without: Sequence[str] = (), new_in: Sequence[str] = (".",)) -> CodeState:
        """Commit and difference to it of the working tree; files that git ignores, or below `without`, do not count,
        and files that git does not know count below `new_in` alone."""
        if not self.is_checkout:
            return CodeState(commit=None, dirty=None)
        changed = self.run("diff", "--name-only", "-z", "HEAD").split("\0")
        added = self._new_files(new_in)
        left_out = tuple(f"{path}/" for path in without)
        paths = sorted({path for path in (*changed, *added) if path and not f"{path}/".startswith(left_out)})
        digest = hashlib.sha256()
        for path in paths:
            content = self.root / path
            data = hashlib.sha256(content.read_bytes()).hexdigest() if content.is_file() else "gone"
            digest.update(f"{path}\0{data}\n".encode())
        return CodeState(
            commit=self.run("rev-parse", "HEAD"), dirty=digest.hexdigest() if paths else None, changed=tuple(paths)
        )

    def _new_files(self, folders: Sequence[str]) -> list[str]:
        """Files that git neither knows nor ignores, below these folders."""
        if not folders:
            return []  # git would take that for all of them
        found = self.run("ls-files", "--others", "--exclude-standard", "-z", "--", *folders)
        return [path for path in found.split("\0") if path]

    def diff(self, new_in: Sequence[str] = (".",)) -> str:
        """Everything that differs from HEAD, with the new files below `new_in`, as `apply` takes it.

        Bytes that are no UTF-8 are kept as surrogates (errors="surrogateescape").
        """
        with tempfile.TemporaryDirectory(prefix="lingbot-diff-") as scratch:
            # An index and an object folder of its own: asking changes nothing in the checkout.
            objects = self.root / self.run("rev-parse", "--git-path", "objects")
            aside = {
                **os.environ,
                "GIT_INDEX_FILE": f"{scratch}/index",
                "GIT_OBJECT_DIRECTORY": scratch,
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
            }
            self.run("read-tree", "HEAD", environment=aside)
            self.run("add", "--update", environment=aside)
            if added := self._new_files(new_in):
                self.run("--literal-pathspecs", "add", "--", *added, environment=aside)
            command = ["git", "diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "HEAD"]
            found = subprocess.run(command, cwd=self.root, env=aside, capture_output=True, check=True)
        return found.stdout.decode("utf-8", errors="surrogateescape")

    def apply(self, changes: str) -> None:
        """Applies what `diff` gave to this working tree, which is at the commit that it was taken from.

        Raises:
            UserError: it does not fit.
        """
        with tempfile.NamedTemporaryFile(suffix=".patch") as file:
            file.write(changes.encode("utf-8", errors="surrogateescape"))
            file.flush()
            self.run("apply", "--binary", "--whitespace=nowarn", file.name)

    def resolve(self, reference: str) -> str | None:
        """Full hash of the commit that a tag, branch or hash leads to; None when there is no such."""
        if reference.startswith("-") or not self.succeeds("rev-parse", "--verify", "-q", f"{reference}^{{commit}}"):
            return None
        return self.run("rev-parse", f"{reference}^{{commit}}")

    def tags(self, pattern: str) -> dict[str, str]:
        """Tag name -> full hash of its commit, for a glob such as 'data/*', sorted by name."""
        listed = self.run(
            "for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", f"refs/tags/{pattern}"
        )
        pairs = [line.split() for line in listed.splitlines()]
        return {name: hashes[-1] for name, *hashes in sorted(pairs)}

    def file_at(self, commit: str, path: str) -> bytes | None:
        """A file's bytes in a commit; None when it is not in it."""
        finished = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=self.root, capture_output=True, check=False)
        return finished.stdout if finished.returncode == 0 else None

    @contextlib.contextmanager
    def worktree(self, commit: str, folder: Path | None = None) -> Iterator["Git"]:
        """A checkout of `commit` apart from this one, removed at the end; in a temporary folder unless one is given."""
        with tempfile.TemporaryDirectory(prefix="lingbot-tree-") as temporary:
            place = folder or Path(temporary) / "tree"
            self.add_worktree(commit, place)
            try:
                yield Git(place)
            finally:
                self.run("worktree", "remove", "--force", str(place))

    def add_worktree(self, commit: str, folder: Path) -> "Git":
        """A checkout of `commit` in `folder`, which must not exist; it stays."""
        if folder.exists():
            raise UserError(f"{folder} exists: remove it, or choose another folder for the checkout of {commit[:12]}.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.run("worktree", "prune")
        self.run("worktree", "add", "-q", "--detach", str(folder), commit)
        return Git(folder)

    def commit_all(self, message: str, paths: Sequence[str]) -> str:
        """Commits the given paths (also ignored ones) and returns the commit."""
        self.run("add", "--force", "--", *paths)
        self.run("commit", "-q", "--no-verify", "-m", message)
        return self.run("rev-parse", "HEAD")

    def tag(self, name: str, commit: str, message: str) -> None:
        """An annotated tag. UserError when it exists: a released name is never moved."""
        if self.succeeds("rev-parse", "--verify", "-q", f"refs/tags/{name}"):
            raise UserError(f"the tag '{name}' exists: a release is never moved; release under the next version.")
        self.run("tag", "-a", name, commit, "-m", message)


class Dvc:
    """DVC in a checkout. Runs as `python -m dvc`, so that it is the one of this environment."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str) -> str:
        """Standard output of a DVC command.

        Raises:
            UserError: DVC is not installed, or the command failed; with what DVC said.
        """
        return run_tool([sys.executable, "-m", "dvc", *arguments], self.root)

    def push(self, *outputs: str) -> None:
        """Pushes outputs to the default remote. The checkout's cache must be its own: large objects of others go too.

        Raises:
            UserError: the remote cannot be reached, or refuses.
        """
        url = self.remote_url()
        if url and url.startswith("s3://"):
            from components.adapters.dvc_objects import upload_large

            upload_large(Path(self._settings()["cache"].get("dir") or self.root / ".dvc" / "cache"), url)
        self.run("push", *outputs)

    def remote_url(self) -> str | None:
        """Address of the default remote, relative paths made absolute; None when there is none.

        Raises:
            UserError: a file of DVC's settings is none, or the default remote has no address.
        """
        settings = self._settings()
        name = settings["core"].get("remote")
        if name is None:
            return None
        if name not in settings["remote"]:
            raise UserError(
                f"DVC's default remote is '{name}', which has no address here: `dvc remote add --local {name} URL`, or "
                "`dvc remote default` another."
            )
        url: str = settings["remote"][name]["url"]
        return url

    def _settings(self) -> Mapping[str, Any]:
        from dvc.config import Config, ConfigError

        try:
            settings: Mapping[str, Any] = Config(dvc_dir=str(self.root / ".dvc"))
        except ConfigError as error:
            raise UserError(
                f"DVC's settings cannot be read ({error}): correct {self.root / '.dvc'}/config or config.local, or the "
                "user's own."
            ) from error
        return settings

    def use(self, *, remote: str, cache: Path) -> None:
        """Settings of this checkout alone (`.dvc/config.local`): where the data lies, and that pulls are verified.

        Raises:
            UserError: DVC cannot write such an address down.
        """
        from dvc.config import Config
        from dvc.config_schema import RelPath

        # DVC writes its settings in ASCII. Folders are therefore written relative to them, so that a checkout below
        # a name with an umlaut works.
        address = remote if "://" in remote else RelPath(remote)
        try:
            with Config(dvc_dir=str(self.root / ".dvc")).edit("local") as settings:
                settings["core"]["remote"] = "storage"
                settings["remote"]["storage"] = {"url": address, "verify": True}
                settings["cache"] = {"dir": RelPath(str(cache)), "type": ["reflink", "hardlink", "copy"]}
        except UnicodeEncodeError as error:
            raise UserError(
                f"DVC cannot write down the address of its remote, {remote}, or of its cache, {cache}: name folders "
                "with ASCII letters alone, with --remote and LINGBOT_HOME"
            ) from error


def run_tool(command: Sequence[str], root: Path, *, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a tool, without the last newline.

    Raises:
        UserError: it is not installed, or ended with an error; the message ends with the last lines that it wrote.
    """
    # Its questions would wait for ever behind a progress view.
    settings = {**os.environ, **TELEMETRY_OFF, "GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    name = "dvc" if "dvc" in command[:3] else command[0]
    try:
        finished = subprocess.run(
            command, cwd=root, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise UserError(
            f"'{command[0]}' is not installed, or {root} is missing: install it, or see `lingbot doctor`."
        ) from error
    if finished.returncode != 0:
        said = " ".join((finished.stderr.strip() or finished.stdout.strip()).split("\n")[-4:])
        shown = " ".join([name, *command[command.index(name) + 1 :]])
        raise UserError(f"`{shown}` failed in {root}: {said}")
    return finished.stdout.rstrip("\n")
