"""Images: what their Containerfiles may do, that each holds what its steps import, and what the builder asks for."""

import argparse
import ast
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.images import IMAGES
from components.steps import STEPS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"containers_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


build, needs, sbom, finish = load("build"), load("requirements"), load("sbom"), load("finish")
ROLES = sorted(build.ROLES)
EVERY = pytest.mark.parametrize("role", ROLES)


def instructions(role: str) -> list[tuple[str, str]]:
    """(instruction, its arguments) of a Containerfile, in order."""
    text = (FOLDER / f"Containerfile.{role}").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage(role: str) -> list[tuple[str, str]]:
    found = instructions(role)
    return found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]


def test_there_is_an_image_a_role_and_a_containerfile_an_image() -> None:
    assert set(ROLES) == set(IMAGES) == set(needs.ROLES) == {path.suffix[1:] for path in FOLDER.glob("Containerfile.*")}
    assert all(build.image_name(role, "0.1.0", "cpu") == IMAGES[role] for role in ROLES)
    assert {step.image for step in STEPS.values()} <= set(ROLES)


@EVERY
def test_an_image_has_two_stages_on_the_base_that_is_given(role: str) -> None:
    assert [rest for word, rest in instructions(role) if word == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert ("ARG", "BASE") in instructions(role), "without a default: the base is named by digest, or made"


@EVERY
def test_an_image_runs_without_root_and_installs_nothing_later(role: str) -> None:
    stage = last_stage(role)
    assert [rest for word, rest in stage if word == "USER"] == ["1000:1000"]
    assert max(n for n, (word, _) in enumerate(stage) if word in ("RUN", "COPY")) < stage.index(("USER", "1000:1000"))
    assert not any("bin/pip" in rest for word, rest in stage if word == "RUN")
    (packages,) = [rest for _, rest in instructions(role) if "-r wanted.txt" in rest]
    assert "--without-pip /opt/venv" in packages
    (project,) = [rest for _, rest in instructions(role) if "-e /app" in rest]
    assert "--python /opt/venv/bin/python check" in project


@EVERY
def test_an_image_is_trimmed_and_compiled_once_everything_is_in_it(role: str) -> None:
    (project,) = [rest for _, rest in instructions(role) if "-e /app" in rest]
    assert re.search(r"&& python3 containers/finish\.py .*/opt/venv /app$", project)
    keeps = "--keep-headers" in project
    compiler = any("g++" in rest for _, rest in last_stage(role))
    assert keeps == compiler, "headers are for who has a compiler"
    installs = [rest for word, rest in instructions(role) if word == "RUN" and "pip --python" in rest]
    # PIP_NO_COMPILE=1 would compile, as pip reads it.
    assert len(installs) == 2 and all("install --no-compile" in rest for rest in installs)


@EVERY
def test_an_image_carries_its_labels_and_its_bill_of_materials(role: str) -> None:
    labels = " ".join(rest for word, rest in last_stage(role) if word == "LABEL")
    for label in ("title", "version", "revision", "licenses", "base.name"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f'title="lingbot-python-{role}"' in labels
    assert any(f"sbom.py lingbot-python-{role}" in rest for word, rest in last_stage(role) if word == "RUN")


@EVERY
def test_the_pip_configuration_is_in_no_layer(role: str) -> None:
    installs = [rest for word, rest in instructions(role) if word == "RUN" and "bin/pip" in rest]
    assert installs and all("--mount=type=secret,id=pip" in rest for rest in installs)
    assert not any("pip.conf" in rest for word, rest in instructions(role) if word in ("COPY", "ADD", "ENV"))


def installed_with(requirements: list[str]) -> set[str]:
    """Names of the distributions that these requirements bring, their own requirements included."""
    found: set[str] = set()
    waiting = [(Requirement(text), frozenset(Requirement(text).extras)) for text in requirements]
    seen = set()
    while waiting:
        requirement, extras = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        for line in lines:
            child = Requirement(line)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                waiting.append((child, frozenset(child.extras)))
    return found


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    """Top package -> the distributions that bring it."""
    return importlib.metadata.packages_distributions()


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports when it runs: not those that only type checkers read."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    found: list[str] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def imported(modules: list[str]) -> Iterator[tuple[str, str]]:
    """(top package, file) of every import of other people's packages that these modules can reach."""
    waiting, seen = list(modules), set()
    while waiting:
        module = waiting.pop()
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in seen or not path.is_file():
            continue  # a name in a module, not a module
        seen.add(module)
        for name in imports(path):
            if (top := name.split(".")[0]) in OURS:
                waiting.append(name)
            elif top not in sys.stdlib_module_names:
                yield top, path.relative_to(ROOT).as_posix()


OURS = {"model", "components", "pipelines", "lingbot_client"}
# A language model that annotates in the step's own process: a profile gives `data` the image `train` then.
OPTIONAL = {"components/annotate/local_model.py", "components/annotate/local_processor.py"}


@pytest.mark.parametrize("role", [role for role in ROLES if role != "mlflow"])
def test_an_image_holds_what_its_code_imports(role: str) -> None:
    modules = [step.module for step in STEPS.values() if step.image == role] or ["components.endpoint.server"]
    held = installed_with(needs.requirements(role))
    makers = distributions()
    missing = {
        f"{top} ({place})"
        for top, place in imported(modules)
        if place not in OPTIONAL and not {canonicalize_name(name) for name in makers.get(top, [top])} & held
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("role", "absent"),
    [
        ("serve", ("kfp", "dvc", "great-expectations", "mujoco", "transformers", "peft", "mlflow")),
        ("data", ("torch", "mlflow", "mujoco", "fastapi")),
        ("simulation", ("mlflow", "dvc", "great-expectations", "transformers")),
        ("mlflow", ("torch", "kfp", "dvc", "mujoco")),
    ],
)
def test_an_image_holds_nothing_that_others_do(role: str, absent: tuple[str, ...]) -> None:
    assert installed_with(needs.requirements(role)) & set(absent) == set()


def write(place: Path, content: str = "x") -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    return place


def test_what_nothing_reads_goes_and_all_else_stays(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    kept = [
        write(packages / name)
        for name in (
            "torch/bin/torch_shm_manager", "torch/testing/tests.py", "jinja2/tests.py", "pkg/contests/a.py",
            "imageio_ffmpeg/binaries/__init__.py", "torch/include/ATen.h", "numpy/testing/__init__.py",
        )
    ]  # fmt: skip
    gone = [
        write(packages / name)
        for name in (
            "pandas/tests/tests/test_a.py", "torch/test/Dict_test", "torch/bin/test_api", "torch/bin/protoc-3.13",
            "torch/bin/TCPStoreTest", "imageio_ffmpeg/binaries/ffmpeg-linux", "pyarrow/include/arrow/api.h",
        )
    ]  # fmt: skip
    assert finish.site_packages(tmp_path) == packages
    assert finish.trim(packages, finish.UNREAD) == len(gone)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert not (packages / "pandas/tests").exists()
    assert finish.trim(packages, finish.HEADERS) == 1 and not kept[5].exists()


def test_bytecode_outlives_a_change_of_times_and_not_one_of_the_source(tmp_path: Path) -> None:
    module = write(tmp_path / "made.py", "VALUE = 1\n")
    write(tmp_path / "later.py", "def f[T](a): ...\nx = (")
    finish.compile_all([tmp_path])

    def loaded() -> tuple[str, str]:
        os.utime(module, (7, 7))
        command = [sys.executable, "-B", "-v", "-c", "import made; print(made.VALUE)"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        (source,) = re.findall(r"# code object from '?.*/(made\.[\w.-]+)", done.stderr)
        return done.stdout.strip(), Path(source).suffix

    assert loaded() == ("1", ".pyc")
    module.write_text("VALUE = 2\n")
    assert loaded() == ("2", ".py")


def test_a_single_package_has_the_range_of_its_extra_and_else_its_pin(tmp_path: Path) -> None:
    assert "torch>=2.7,<2.14" in needs.requirements("serve")
    assert any(line.startswith("mlflow-skinny==") for line in needs.requirements("serve"))


def test_the_bill_of_materials_names_packages_once_and_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "libc6:amd64\t2.36-9+deb12u10\tamd64\nzlib1g:amd64\t1:1.2.13\tamd64\n"
    monkeypatch.setattr(sbom.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, stdout=listed))
    bill = sbom.bill("lingbot-python-serve", "0.1.0")
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["version"]) == (
        "CycloneDX", "1.5", "0.1.0",
    )  # fmt: skip
    places = [component["purl"] for component in bill["components"]]
    assert places == sorted(set(places)) and len(places) > 100
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64" in places
    version = importlib.metadata.version("numpy")
    assert f"pkg:pypi/numpy@{version}" in places
    assert json.dumps(bill) == json.dumps(sbom.bill("lingbot-python-serve", "0.1.0"))


def options(**given: Any) -> argparse.Namespace:
    found = build.parse([])
    vars(found).update(given)
    return found


def test_pip_s_places_on_this_machine_are_mounted_and_addresses_are_not(tmp_path: Path) -> None:
    index = tmp_path / "index/simple"
    index.mkdir(parents=True)
    settings = {"extra-index-url": [f"file://{index}", "https://pypi.example.com/simple"], "find-links": ["/not/there"]}
    assert build.local_places(settings) == [str(tmp_path / "index")], "the files lie beside `simple`"
    assert "extra-index-url = file://" in build.pip_file(settings)


@pytest.mark.parametrize(
    ("given", "settings", "index"),
    [
        ({}, {}, build.TORCH_CPU),
        ({"variant": "cuda"}, {}, ""),
        ({}, {"index-url": ["https://mirror.example.com"]}, ""),
        ({"torch_index": "https://x"}, {"index-url": ["y"]}, "https://x"),
    ],
)
def test_which_torch_is_taken(given: dict[str, Any], settings: dict[str, list[str]], index: str) -> None:
    assert build.torch_index(options(**given), settings) == index


def test_a_build_gives_its_arguments_the_secret_and_the_commit_s_time(tmp_path: Path) -> None:
    command = build.build_command(
        "buildah",
        Path("Containerfile.serve"),
        Path("context"),
        "name:1",
        {"BASE": "b"},
        tmp_path / "pip",
        ["/idx"],
        "7",
    )
    text = " ".join(command)
    for part in ("--build-arg BASE=b", f"id=pip,src={tmp_path}/pip", "--volume /idx:/idx:ro", "--timestamp 7"):
        assert part in text
    with pytest.raises(build.Refused, match="docker cannot mount"):
        build.build_command("docker", Path("f"), Path("c"), "n", {}, tmp_path / "pip", ["/idx"], "7")


def test_a_base_that_can_change_is_refused() -> None:
    with pytest.raises(build.Refused, match="give it by digest"):
        build.check_base("docker.io/library/debian:bookworm")
    assert build.check_base(f"debian@sha256:{'a' * 64}")


def test_a_base_of_one_s_own_keeps_licences_and_no_manuals(tmp_path: Path) -> None:
    (tmp_path / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True)
    kept = [write(tmp_path / name) for name in ("usr/share/doc/tar/copyright", "usr/bin/tar", "var/lib/dpkg/status")]
    gone = [
        write(tmp_path / name)
        for name in (
            "usr/share/doc/tar/changelog.gz", "usr/share/locale/de/LC_MESSAGES/tar.mo", "usr/share/man/man1/tar.1.gz",
            "var/cache/apt/archives/tar.deb", "var/cache/apt/pkgcache.bin", "var/lib/apt/lists/deb_InRelease",
        )
    ]  # fmt: skip
    build.slim(tmp_path)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert "path-include /usr/share/doc/*/copyright" in (tmp_path / "etc/dpkg/dpkg.cfg.d/slim").read_text()


def test_digests_are_written_into_the_overlay_and_those_of_other_images_stay(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text((ROOT / "k8s/overlays/prod/images/kustomization.yaml").read_text())
    build.write_component(tmp_path, {"serve": f"r.io:5000/x/lingbot-python-serve@sha256:{'b' * 64}"})
    found = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())
    by_name = {image["name"]: image for image in found["images"]}
    assert found["kind"] == "Component" and set(by_name) == {
        "lingbot-python-data", "lingbot-python-mlflow", "lingbot-python-serve", "lingbot-python-train",
    }  # fmt: skip
    serve = by_name["lingbot-python-serve"]
    assert (serve["newName"], serve["digest"]) == ("r.io:5000/x/lingbot-python-serve", f"sha256:{'b' * 64}")
    assert re.fullmatch("sha256:0{64}", by_name["lingbot-python-mlflow"]["digest"])


def test_mistakes_end_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["sreve"], ["--kustomize", "x"]):
        with pytest.raises(SystemExit):
            build.parse(arguments)
    error = capsys.readouterr().err
    assert "unknown image 'sreve'" in error and "give --push REGISTRY too" in error
