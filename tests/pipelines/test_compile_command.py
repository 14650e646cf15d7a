"""`lingbot compile`: every pipeline, images by digest or a word about it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components import state
from components.images import IMAGES
from pipelines import ir
from pipelines.cli import main
from pipelines.options import PIPELINES


def images(folder: Path, roles: set[str]) -> str:
    path = folder / "images.yaml"
    path.write_text(json.dumps({role: f"registry.example.com/{role}@sha256:{'a' * 64}" for role in sorted(roles)}))
    return str(path)


def test_every_pipeline_is_written_with_images_by_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "ir"
    assert main(["compile", "--images", images(tmp_path, set(IMAGES)), "--output", str(output)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.stem for path in written) == sorted(PIPELINES)
    for path in written:
        pipeline, _ = ir.load(path)
        for executor in pipeline["deploymentSpec"]["executors"].values():
            assert "@sha256:" in executor["container"]["image"]


PROGRAM = """
import json, sys, time
from pipelines.cli import main
code = main(sys.argv[1:])
clients = [name for name in ("kfp.client", "kfp.components", "kubernetes", "requests") if name in sys.modules]
print(json.dumps({"code": code, "clients": clients, "cpu": time.process_time()}))
"""


def test_another_process_writes_the_same_bytes_and_imports_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compilation is to take at most three seconds: the clients are one of them, and kfp's own file differs from
    process to process. A slow machine with other work may take half as long again."""
    monkeypatch.delenv("_KFP_RUNTIME", raising=False)
    here, there = tmp_path / "here", tmp_path / "there"
    command = ["compile", "--allow-tags", "--output"]
    assert main([*command, str(here)]) == 0
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command, str(there)],
        cwd=state.checkout(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(child.stdout.splitlines()[-1])
    assert (told["code"], told["clients"]) == (0, [])
    assert told["cpu"] < 4.5
    for name in PIPELINES:
        assert (here / f"{name}.yaml").read_bytes() == (there / f"{name}.yaml").read_bytes()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").mkdir()
    assert main(["compile", "study", "--allow-tags", "--output", str(tmp_path)]) == 2
    assert "study.yaml (Is a directory): give another folder with --output" in capsys.readouterr().err


def test_images_by_tag_are_refused_by_role_and_taken_when_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ir"
    command = ["compile", "study", "--images", images(tmp_path, {"data", "simulation"}), "--output", str(output)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "the images of train are named by tags" in error and "--allow-tags" in error
    assert not output.exists(), "nothing is written"
    assert main([*command, "--allow-tags"]) == 0
    assert [path.stem for path in output.iterdir()] == ["study"]


def test_a_file_of_this_machine_is_none_for_a_pod(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cubes").mkdir()
    command = ["compile", PIPELINES[0], "--allow-tags", "--output", str(tmp_path), "--dataset", str(tmp_path / "cubes")]
    assert main(command) == 2
    assert "ingest.dataset is '" in (said := capsys.readouterr().err) and "which pods do not see" in said
    assert main([*command, "--profile", "laptop"]) == 0


def test_a_laptop_has_no_images_to_name(tmp_path: Path) -> None:
    assert main(["compile", PIPELINES[0], "--profile", "laptop", "--output", str(tmp_path)]) == 0


def test_a_wrong_pipeline_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "stduy"]) == 2
    assert "Did you mean 'study'" in capsys.readouterr().err
