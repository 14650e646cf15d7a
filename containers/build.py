#!/usr/bin/env python3
"""Builds the images from the last commit, and runs the smoke test of each: `containers/build.py [ROLE...]`.

Works with buildah, podman or docker. Nothing but the standard library is needed, and no registry: without --base, the
base is made with debootstrap (as root). What differs from the last commit is not in the images.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROLES = ("serve", "mlflow", "data", "simulation", "train")  # quickest first
CONTENT = (
    "model", "components", "pipelines", "containers", "params.yaml", "dvc.yaml", "pyproject.toml", "constraints.txt",
    "README.md", "LICENSE",
)  # fmt: skip
TOOLS = ("buildah", "podman", "docker")
DEBIAN = "bookworm"  # with Python 3.11; Containerfiles name its packages
LOCAL_BASE = f"localhost/lingbot-base:{DEBIAN}"
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
# What a base of one's own lacks, as Debian's slim images do: translations, manuals, what apt fetched. Licences stay.
_SLIM = """path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
"""
_LOCAL_PIP = ("find-links", "extra-index-url", "index-url", "cert")


class Refused(Exception):
    """What the person has to put right, in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        build_all(options)
    except Refused as error:
        print(f"build: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"build: {error.cmd[0]} ended with code {error.returncode}; its output is above", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="containers/build.py", description="Build the images and try each.")
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=f"of {', '.join(ROLES)} (default: all)")
    parser.add_argument("--base", default="", metavar="IMAGE@sha256:...", help="default: one made with debootstrap")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="for debootstrap")
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--torch-index", help=f"where torch's CPU build lies ({TORCH_CPU}, unless pip is configured)")
    parser.add_argument("--tool", choices=TOOLS, help="default: the first that is installed")
    parser.add_argument("--push", default="", metavar="REGISTRY/PATH", help="push, and name the images by digest")
    parser.add_argument("--kustomize", type=Path, metavar="FOLDER", help="write the digests as a component there, too")
    parser.add_argument("--no-smoke", action="store_true", help="do not run the smoke tests")
    parser.add_argument("--output", type=Path, default=ROOT / "build/images", help="for images.yaml and the SBOMs")
    options = parser.parse_args(arguments)
    for role in options.roles:
        if role not in ROLES:
            parser.error(f"unknown image '{role}': it is one of {', '.join(ROLES)}")
    if options.kustomize and not options.push:
        parser.error("--kustomize writes digests, which images get when they are pushed: give --push REGISTRY too")
    return options


def build_all(options: argparse.Namespace) -> None:
    tool = options.tool or next((name for name in TOOLS if shutil.which(name)), "")
    if not tool:
        raise Refused(f"none of {', '.join(TOOLS)} is installed: apt-get install buildah, or name one with --tool.")
    revision, epoch = git("rev-parse", "HEAD"), git("log", "-1", "--format=%ct")
    version = tomllib.loads(git("show", "HEAD:pyproject.toml"))["project"]["version"]
    if git("status", "--porcelain"):
        print("build: what is not committed is not in the images")
    base = check_base(options.base) if options.base else local_base(tool, options.mirror)
    if tool == "buildah":
        choose_isolation(base)
    options.output.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="lingbot-images-") as scratch:
        context = Path(scratch) / "context"
        context.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD", *CONTENT], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", context], input=archive.stdout, check=True)
        pip = Path(scratch) / "pip.conf"
        settings = pip_settings()
        pip.write_text(pip_file(settings))
        pip.chmod(0o600)
        arguments = {
            "BASE": base,
            "VARIANT": options.variant,
            "VERSION": version,
            "REVISION": revision,
            "TORCH_INDEX": torch_index(options, settings),
        }
        for role in options.roles or ROLES:
            name = image_name(role, version, options.variant)
            print(f"build: {name}", flush=True)
            containerfile = context / f"containers/Containerfile.{role}"
            declared = {key: value for key, value in arguments.items() if f"ARG {key}" in containerfile.read_text()}
            run(build_command(tool, containerfile, context, name, declared, pip, local_places(settings), epoch))
            if not options.no_smoke:
                smoke(tool, name, role)
            (options.output / f"{role}.cdx.json").write_text(
                inside(tool, name, "cat", "/usr/share/sbom/image.cdx.json")
            )
            made[role] = push(tool, name, options.push) if options.push else name
            # After each, so that a later failure loses nothing. JSON is YAML.
            (options.output / "images.yaml").write_text(json.dumps(made, indent=1) + "\n")
            if options.kustomize:
                write_component(options.kustomize, made)
            print(f"build: {made[role]} is done, {size(tool, name) / 1e6:.0f} MB", flush=True)
    print(f"build: {options.output / 'images.yaml'} names the images: lingbot compile --images takes it")


def image_name(role: str, version: str, variant: str) -> str:
    return f"lingbot-python-{role}:{version}{'-cuda' if variant == 'cuda' else ''}"


def check_base(base: str) -> str:
    if "@sha256:" not in base:
        raise Refused(f"--base {base} can change under its name: give it by digest, IMAGE@sha256:...")
    return base


def local_base(tool: str, mirror: str) -> str:
    """A minimal Debian as an image, made once."""
    if subprocess.run(exists_command(tool, LOCAL_BASE), capture_output=True).returncode == 0:
        return LOCAL_BASE
    if not shutil.which("debootstrap") or os.geteuid() != 0:
        raise Refused(
            "without --base the base is made with debootstrap as root: apt-get install debootstrap, or give "
            "--base docker.io/library/debian@sha256:..."
        )
    if tool != "buildah":
        raise Refused(f"{tool} cannot make a base from debootstrap here: give --base, or --tool buildah.")
    print(f"build: {LOCAL_BASE} with debootstrap from {mirror}; some minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="lingbot-base-") as scratch:
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", DEBIAN, f"{scratch}/root", mirror])
        slim(Path(scratch) / "root")
        container = output(["buildah", "from", "scratch"])
        run(["buildah", "add", "-q", container, f"{scratch}/root", "/"])
        run(["buildah", "commit", "-q", "--rm", container, LOCAL_BASE])
    return LOCAL_BASE


def slim(root: Path) -> None:
    """Takes from a Debian what no container reads, and has dpkg leave it out from then on."""
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(_SLIM)
    for pattern in ("usr/share/doc/**/*", "usr/share/man/**/*", "usr/share/locale/**/*", "var/lib/apt/lists/*_*",
                    "var/cache/apt/**/*.deb", "var/cache/apt/*.bin", "var/log/*.log"):  # fmt: skip
        for path in root.glob(pattern):
            if (path.is_file() or path.is_symlink()) and path.name != "copyright":
                path.unlink()


def choose_isolation(base: str) -> None:
    """Where no OCI runtime can start a container (in a container, say), buildah has chroot."""
    if "BUILDAH_ISOLATION" in os.environ:
        return
    container = output(["buildah", "from", base])
    try:
        if subprocess.run(["buildah", "run", container, "--", "true"], capture_output=True).returncode:
            print("build: no OCI runtime starts a container here, so BUILDAH_ISOLATION=chroot is taken", flush=True)
            os.environ["BUILDAH_ISOLATION"] = "chroot"
    finally:
        run(["buildah", "rm", container], quiet=True)


def pip_settings() -> dict[str, list[str]]:
    """Where this machine's pip looks, from its files and environment: option -> values."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    found: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in _LOCAL_PIP or option in ("timeout", "trusted-host"):
            values = value.strip("'\"").replace("\\n", " ").split()
            found[option] = [*found.get(option, []), *(each for each in values if each not in found.get(option, []))]
    return found


def pip_file(settings: Mapping[str, Sequence[str]]) -> str:
    return "[global]\n" + "".join(f"{option} = {' '.join(values)}\n" for option, values in sorted(settings.items()))


def local_places(settings: Mapping[str, Sequence[str]]) -> list[str]:
    """Folders and files of this machine that pip reads from: an index on disk, the certificates of a proxy."""
    places = []
    for value in (value for option in _LOCAL_PIP for value in settings.get(option, ())):
        path = Path(value.removeprefix("file://"))
        if "://" in value and not value.startswith("file://") or not path.is_absolute():
            continue
        # A PEP 503 folder links to files beside it.
        places.append(str(path.parent if path.name == "simple" else path))
    return sorted({place for place in places if Path(place).exists()})


def torch_index(options: argparse.Namespace, settings: Mapping[str, Sequence[str]]) -> str:
    """A pip that is configured decides by itself which torch it takes; PyPI's brings CUDA."""
    if options.torch_index is not None:
        return str(options.torch_index)
    configured = settings.keys() & {"find-links", "extra-index-url", "index-url"}
    return TORCH_CPU if options.variant == "cpu" and not configured else ""


def build_command(
    tool: str,
    containerfile: Path,
    context: Path,
    name: str,
    arguments: Mapping[str, str],
    pip: Path,
    places: Sequence[str],
    epoch: str,
) -> list[str]:
    """One layer a stage, because a layer a line would hash gigabytes again for each; the same commit gives files of one
    time; the pip configuration is a secret, which no layer keeps."""
    command = [tool, "build", "--file", str(containerfile), "--tag", name, "--secret", f"id=pip,src={pip}"]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    if tool == "docker":
        if places:
            raise Refused(f"pip reads from {', '.join(places)}, which docker cannot mount: use --tool buildah.")
        return [*command, str(context)]
    for place in places:
        command += ["--volume", f"{place}:{place}:ro"]
    return [*command, "--format", "docker", "--timestamp", epoch, "--network", "host", str(context)]


def smoke(tool: str, name: str, role: str) -> None:
    """Runs the image's smoke test as its user, without a network, on a root file system that is read-only."""
    test = ["python", "/app/containers/smoke.py", role]
    if tool != "buildah":
        limits = ["--read-only", "--network", "none", "--tmpfs", "/tmp", "--volume", "/var/lib/lingbot"]
        run([tool, "run", "--rm", *limits, "--cap-drop", "ALL", "--entrypoint", "", name, *test])
        return
    container = output(["buildah", "from", name])
    try:
        with tempfile.TemporaryDirectory(prefix="lingbot-smoke-") as scratch:
            mounts = []
            for place in ("/tmp", "/var/lib/lingbot"):
                folder = Path(scratch) / place.strip("/").replace("/", "-")
                folder.mkdir()
                os.chown(folder, 1000, 1000)
                mounts += ["--volume", f"{folder}:{place}"]
            # buildah's containers are for building, their root is writable: remount it, then drop every right.
            closed = "mount -o remount,bind,ro / && ! touch /probe 2>/dev/null && exec setpriv --reuid 1000 "
            closed += '--regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$@"'
            shut = ["--user", "0:0", "--cap-add", "CAP_SYS_ADMIN", "--network", "none", *mounts]
            run(["buildah", "run", *shut, container, "--", "sh", "-c", closed, "sh", *test])
    finally:
        run(["buildah", "rm", container], quiet=True)


def inside(tool: str, name: str, *command: str) -> str:
    if tool != "buildah":
        return output([tool, "run", "--rm", "--network", "none", "--entrypoint", "", name, *command])
    container = output(["buildah", "from", name])
    try:
        return output(["buildah", "run", "--network", "none", container, "--", *command])
    finally:
        run(["buildah", "rm", container], quiet=True)


def push(tool: str, name: str, registry: str) -> str:
    """Pushes; returns the image by digest."""
    target = f"{registry.rstrip('/')}/{name}"
    repository = target.rpartition(":")[0]
    if tool == "docker":
        run(["docker", "tag", name, target])
        run(["docker", "push", target])
        digests = json.loads(output(["docker", "inspect", "--format", "{{json .RepoDigests}}", target]))
        return next(item for item in digests if item.startswith(f"{repository}@"))
    with tempfile.NamedTemporaryFile("r", prefix="lingbot-digest-") as digest:
        run([tool, "push", "--digestfile", digest.name, name, f"docker://{target}"])
        return f"{repository}@{digest.read().strip()}"


def write_component(folder: Path, images: Mapping[str, str]) -> None:
    """A kustomize component that gives our images their digests; those that it has already stay."""
    path = folder / "kustomization.yaml"
    blocks = dict(re.findall(r"  - name: (\S+)\n((?:    .*\n)+)", path.read_text())) if path.exists() else {}
    for image in images.values():
        repository, _, digest = image.partition("@")
        blocks[repository.rpartition("/")[2]] = f"    newName: {repository}\n    digest: {digest}\n"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "# Written by containers/build.py --push --kustomize.\n"
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n"
        + "".join(f"  - name: {name}\n{lines}" for name, lines in sorted(blocks.items()))
    )


def size(tool: str, name: str) -> int:
    """Bytes of the image's layers, not compressed."""
    if tool == "docker":
        return int(output(["docker", "inspect", "--format", "{{.Size}}", name]))
    (entry,) = json.loads(output([tool, "images", "--json", name]))
    shown = str(entry["size"])
    return int(shown) if shown.isdigit() else _bytes(shown)


def _bytes(text: str) -> int:
    number, unit = text.split()
    return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])


def exists_command(tool: str, name: str) -> list[str]:
    return [tool, "image", "inspect", name] if tool == "docker" else [tool, "inspect", "--type", "image", name]


def git(*arguments: str) -> str:
    return output(["git", *arguments], cwd=ROOT)


def output(command: Sequence[str], cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def run(command: Sequence[str], quiet: bool = False) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    sys.exit(main())
