"""What this machine lacks for which journey, and the line that puts it right. Looks, and changes nothing."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator

from components import state
from components.adapters.versioning import Git
from components.provenance import code_state
from model.errors import UserError

RUN, REPRODUCE, PROMOTE = "run", "reproduce", "promote and serve"
# Three of the artefacts of the demo fit beside each other, with room for the report and the registry.
DISK_BYTES = 5 << 30
MEMORY_BYTES = 6 << 30
PORTS = {8000: "the endpoint", 9400: "metrics"}
_PACKAGES = {
    RUN: ("torch", "kfp", "mlflow", "great_expectations", "pyarrow", "av", "mujoco", "gym_aloha", "matplotlib"),
    REPRODUCE: ("dvc",),
    PROMOTE: ("fastapi", "uvicorn", "websockets", "msgpack"),
}
# Renders one frame as the simulation does: whether a library is there says little about whether it works.
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 32, 32)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer.update_scene(data)
assert renderer.render().shape == (32, 32, 3)
renderer.close()
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        journey: which of the three needs it.
        subject: what was looked at.
        found: what is there.
        fix: what to do; empty when nothing is missing.
        needed: the journey does not work without it.
    """

    journey: str
    subject: str
    found: str
    fix: str = ""
    needed: bool = True


def examine() -> Iterator[Finding]:
    """Every finding, in the order of the journeys."""
    for check in _CHECKS:
        yield from check()


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    yield Finding(
        journey=RUN,
        subject="Python",
        found=version,
        fix="install Python 3.11 or later and run `make run`, which makes .venv with it" if old else "",
    )


def _packages() -> Iterator[Finding]:
    for journey, names in _PACKAGES.items():
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        yield Finding(
            journey=journey,
            subject="Python packages",
            found=f"missing: {', '.join(absent)}" if absent else f"all {len(names)}",
            fix="`make run` installs them into .venv; then use .venv/bin/lingbot" if absent else "",
        )


def _versions() -> Iterator[Finding]:
    """Packages that are there and not as pyproject.toml wants them."""
    project = state.checkout() / "pyproject.toml"
    if importlib.util.find_spec("packaging") is None or not project.is_file():
        return  # then others are missing too, which is said already
    from packaging.requirements import Requirement

    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wrong = []
    for line in sorted({line for extra, lines in extras.items() if extra != "dev" for line in lines}):
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate():
            for found in importlib.metadata.distributions(name=wanted.name):
                if not wanted.specifier.contains(found.version, prereleases=True):
                    wrong.append(f"{wanted.name} {found.version} (it must be {wanted.specifier})")
                break
    yield Finding(
        journey=RUN,
        subject="versions of packages",
        found=", ".join(wrong) or "as pyproject.toml wants them",
        fix="`make run` installs the right ones into .venv; then use .venv/bin/lingbot" if wrong else "",
    )


def _rendering() -> Iterator[Finding]:
    if importlib.util.find_spec("mujoco") is None:
        return
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
    finished = subprocess.run([sys.executable, "-c", _RENDER], env=environment, capture_output=True, text=True)
    works = finished.returncode == 0
    said = finished.stderr.strip().splitlines()
    yield Finding(
        journey=RUN,
        subject="rendering (EGL)",
        found="works" if works else f"fails: {said[-1] if said else f'code {finished.returncode}'}",
        fix="" if works else "apt-get install libegl1 libopengl0 libgl1-mesa-dri",
    )


def _disk() -> Iterator[Finding]:
    place = state.home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    yield Finding(
        journey=RUN,
        subject="disk",
        found=f"{free / 2**30:.1f} GiB free for {state.home()}" + ("" if writable else ", not writable"),
        fix=""
        if writable and free >= DISK_BYTES
        else f"set LINGBOT_HOME to a folder that you may write to, with {DISK_BYTES >> 30} GiB free",
    )


def _memory() -> Iterator[Finding]:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        journey=RUN,
        subject="memory",
        found=f"{size / 2**30:.1f} GiB",
        fix="" if size >= MEMORY_BYTES else "lower pretrain.batch_size and finetune.batch_size",
        needed=False,
    )


def _storage() -> Iterator[Finding]:
    url = os.environ.get("LINGBOT_STORAGE")
    if not url:
        return
    from components.adapters.storage import Storage

    try:
        Storage.from_url(url).probe()
    except UserError as error:
        yield Finding(journey=RUN, subject="LINGBOT_STORAGE", found=str(error), fix="correct it, or unset it")
    else:
        yield Finding(journey=RUN, subject="LINGBOT_STORAGE", found=f"{url} answers")


def _git() -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield Finding(journey=REPRODUCE, subject="git", found="not installed", fix="apt-get install git")
        return
    git = Git(state.checkout())
    if not git.is_checkout:
        yield Finding(
            journey=REPRODUCE,
            subject="git checkout",
            found=f"{git.root} is none",
            fix="clone the project; releases are tags of its repository",
        )
        return
    identity = git.succeeds("var", "GIT_AUTHOR_IDENT")
    code = code_state()
    found = f"commit {str(code.commit)[:12]}" + (f", {len(code.changed)} files changed" if code.dirty else "")
    yield Finding(
        journey=REPRODUCE,
        subject="git",
        found=found if identity else f"{found}, no name and e-mail address",
        fix="" if identity else "git config user.name NAME && git config user.email ADDRESS",
        needed=False,
    )


def _remote() -> Iterator[Finding]:
    if importlib.util.find_spec("dvc") is None or not (state.checkout() / ".dvc").is_dir():
        return
    from pipelines.versions.tags import default_remote

    yield Finding(journey=REPRODUCE, subject="DVC remote", found=default_remote())


def _ports() -> Iterator[Finding]:
    for port, purpose in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                yield Finding(
                    journey=PROMOTE,
                    subject=f"port {port}",
                    found=f"in use ({purpose} wants it)",
                    fix="give another with --port, or end what listens there",
                    needed=False,
                )
            else:
                yield Finding(journey=PROMOTE, subject=f"port {port}", found="free")


def _optional_tools() -> Iterator[Finding]:
    for tool, purpose, package in (("g++", "torch.compile", "g++"), ("kubectl", "the cluster", "kubernetes-client")):
        place = shutil.which(tool)
        yield Finding(
            journey=RUN,
            subject=tool,
            found=place or f"not installed ({purpose} needs it)",
            fix="" if place else f"apt-get install {package}",
            needed=False,
        )


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _versions, _rendering, _disk, _memory, _storage, _git, _remote, _ports, _optional_tools,
)  # fmt: skip


def report_lines(findings: list[Finding]) -> Iterator[str]:
    """The findings by journey, each with its fix."""
    for journey in dict.fromkeys((RUN, REPRODUCE, PROMOTE, *(finding.journey for finding in findings))):
        chosen = [finding for finding in findings if finding.journey == journey]
        blocked = any(finding.fix and finding.needed for finding in chosen)
        yield f"{journey}: {'not ready' if blocked else 'ready'}"
        for finding in chosen:
            mark = "ok  " if not finding.fix else "MISS" if finding.needed else "note"
            yield f"  {mark} {finding.subject}: {finding.found}"
            if finding.fix:
                yield f"       -> {finding.fix}"
