"""`lingbot data inspect` and `lingbot data validate`, as a person calls them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.robots import parse_robot
from pipelines.cli import main
from pipelines.commands.data_inspect import ranges
from tests.fixtures_lerobot import CAMERAS, LEVEL, write_dataset


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean") / "set", "v2.1", lengths=(8, 9, 7), depth=True)


@pytest.fixture
def broken(clean: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    (root / "data/chunk-000/episode_000002.parquet").unlink()
    (root / f"videos/chunk-000/observation.images.{CAMERAS[0]}/episode_000000.mp4").unlink()
    return root


def test_inspect_tells_what_a_dataset_holds(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(clean)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        f"dataset   {clean}",
        "version   v2.1",
        "robot     aloha_sim (robot_type 'aloha_sim', layout canonical, simulator aloha_mujoco)",
        "episodes  3 of 3 declared have a table",
        "length    0.001 h, 24 frames at 10 fps",
    ]
    assert "camera    observation.images.cam_high  48x48x3, video of 3 episodes" in lines
    assert "depth     of 3 cameras, complete in 3 episodes" in lines
    assert "task          2 x lift the cube with the right arm" in lines
    assert "problem   none at a glance" in lines


def test_inspect_names_problems_without_decoding(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for video in (broken / "videos").rglob("*.mp4"):
        video.write_bytes(b"never opened")
    assert main(["data", "inspect", str(broken)]) == 0
    text = capsys.readouterr().out
    assert "1 episodes have no table: 2" in text
    assert "1 episodes have a table but no video of 'observation.images.cam_high': 0" in text


def test_inspect_refuses_what_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(tmp_path / "absent")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{tmp_path}/absent is not a LeRobot dataset" in message


def test_inspect_writes_sample_pictures(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (broken / f"videos/chunk-000/observation.images.{CAMERAS[1]}/episode_000001.mp4").write_bytes(b"no video")
    assert main(["data", "inspect", str(broken), "--pictures", str(tmp_path / "seen")]) == 0
    text = capsys.readouterr().out
    assert "no picture: " in text and "episode 1, camera 'observation.images.cam_left_wrist'" in text
    with Image.open(tmp_path / "seen/cam_right_wrist.png") as sheet:
        assert sheet.size == (3 * 160, 3 * 160)
        # the left half of a frame is as bright as its number: 0, 3 and 7 of episode 0
        levels = np.asarray(sheet.convert("L"))[80, [40, 200, 360]].astype(int)
    assert [round((level - 16) / LEVEL) for level in levels] == [0, 3, 7]
    with Image.open(tmp_path / "seen/cam_high.png") as sheet:  # episode 0 has no video there
        assert sheet.size == (3 * 160, 2 * 160)


def test_map_prints_the_mapping_and_writes_a_robot(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my_aloha.yaml"
    assert main(["data", "map", str(clean), "--robot", "agilex", "--output", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "aloha_sim -> agilex: 14 of the dataset's dimensions placed"
    assert lines[2].split() == ["0", "left_waist", "left_joint_1", "0", "0", "side,", "kind", "and", "rank"]
    assert lines[-1] == f"wrote {file}: check it, and put it in model/robots/"
    robot = parse_robot(file.read_text(), "my_aloha.yaml")
    assert (robot.id, robot.aliases, robot.control_hz) == ("my_aloha", ("aloha_sim",), 10.0)


def test_map_answers_1_and_names_what_it_could_not_place(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = clean / "meta/info.json"
    whole = info.read_text()
    info.write_text(whole.replace('"left_waist"', '"tail_1"'))
    try:
        assert main(["data", "map", str(clean), "--robot", "gr1"]) == 1
        text = capsys.readouterr().out
        assert "not in the dataset: " in text and "unverified in gr1.yaml" in text
        assert main(["data", "map", str(clean), "--robot", "gr2"]) == 2
        assert "unknown robot 'gr2'" in capsys.readouterr().err
    finally:
        info.write_text(whole)


def test_validate_prints_the_verdict_and_keeps_it_on_request(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "validate", str(broken), "--output", str(tmp_path / "kept")]) == 1
    text = capsys.readouterr().out
    assert text.startswith("1 of 3 episodes are usable (0.000 h, robot aloha_sim, LeRobot v2.1)")
    assert "error: episode 0: its video is missing of camera 'observation.images.cam_high'" in text
    assert "error: episode 2: its table is missing" in text
    assert str(tmp_path / "kept/data_docs/index.html") in text
    assert json.loads((tmp_path / "kept/verdict.json").read_text())["usable_episodes"] == [1]


def test_validate_answers_2_when_nothing_is_usable(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(broken / "data")
    assert main(["data", "validate", str(broken)]) == 2
    text = capsys.readouterr().out
    assert text.startswith("0 of 3 episodes are usable")
    assert "Give --output DIR to keep verdict.json" in text


def test_validate_refuses_an_output_that_is_a_file(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["data", "validate", str(clean), "--output", str(tmp_path / "file")]) == 2
    assert f"--output '{tmp_path}/file' cannot be made a folder" in capsys.readouterr().err


def test_ranges_of_numbers() -> None:
    assert ranges([0, 3, 6, 7, 8, 9, 12]) == "0, 3, 6-9, 12"
    assert ranges([]) == ""
