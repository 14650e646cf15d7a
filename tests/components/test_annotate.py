"""The step `annotate`: sentences, the table, and its bytes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.annotate import step
from components.annotate.cutting import ROBOTS, settings_of
from components.annotate.sentences import arm_name, sub_task, task_object
from model.data.annotations import read_annotations, write_annotations
from model.data.lerobot_writer import LeRobotWriter
from model.data.segmentation import ACTIONS, AtomicSegment, Part, SegmentationSettings
from model.errors import UserError
from model.progress import Silent
from model.robots import load_robot, robot_ids

ALOHA = load_robot("aloha_sim")


def segment(*acts: tuple[str, str], holding: tuple[str, ...] = ()) -> AtomicSegment:
    parts = tuple(Part(arm=arm, action=action, start=0, end=5) for arm, action in acts)
    return AtomicSegment(start=0, end=5, parts=parts, holding=holding, confidences=(1.0, 1.0))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two picks of one second each way, at 20 Hz, and an episode that is quarantined."""
    root = tmp_path_factory.mktemp("annotate")
    writer = LeRobotWriter(
        root / "dataset", fps=20, robot_type="aloha_sim", state_names=ALOHA.state_names,
        action_names=ALOHA.action_names, cameras={"cam_high": (16, 16)}, depth=False,
    )  # fmt: skip
    for arm in ("right", "left", "right"):
        first = 7 if arm == "right" else 0
        action = np.zeros((60, 14), np.float32)
        action[:, [6, 13]] = 1.0
        action[30:, first + 6] = 0.0
        s = np.clip(np.arange(60) / 30, 0, 1)
        action[:, first] = s**3 * (10 - 15 * s + 6 * s**2)
        lift = np.clip((np.arange(60) - 40) / 19, 0, 1)
        action[:, first + 1] = lift**3 * (10 - 15 * lift + 6 * lift**2)
        state = action.copy()
        state[30:40, first + 6] = np.linspace(0.9, 0, 10)  # fingers take half a second
        pose = np.zeros((60, 14), np.float32)
        pose[:, first + 2] = 0.2 * lift
        writer.add_episode(
            task=f"lift the red cube with the {arm} arm", state=state, action=action, eef_pose=pose,
            images={"cam_high": np.zeros((60, 16, 16, 3), np.uint8)},
        )  # fmt: skip
    writer.finish()
    (root / "verdict").mkdir()
    (root / "verdict/quarantine.yaml").write_text("- {episode: 2, rule: static_episode, evidence: {}}\n")
    return {"dataset": root / "dataset", "verdict": root / "verdict"}


def test_rows_say_what_each_arm_does(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = step.run(inputs, tmp_path, step.Parameters(), Silent())
    rows = read_annotations(tmp_path)
    assert [(row["episode"], row["atomic_action"], row["arm"], row["sub_task"]) for row in rows] == [
        (0, "reach", "right", "move the right arm to the red cube"),
        (0, "close gripper", "right", "close the right gripper"),
        (0, "lift", "right", "lift the red cube with the right arm"),
        (1, "reach", "left", "move the left arm to the red cube"),
        (1, "close gripper", "left", "close the left gripper"),
        (1, "lift", "left", "lift the red cube with the left arm"),
    ]
    assert {(row["source"], row["review_state"]) for row in rows} == {("template", "unreviewed")}
    assert rows[0]["task"] == "lift the red cube with the right arm" and 0 < rows[0]["confidence"] <= 1
    assert summary["episodes"] == 2 and summary["segments"] == 6
    assert summary["atomic_actions"] == {"close gripper": 2, "lift": 2, "reach": 2}


def test_equal_inputs_give_equal_bytes_without_other_metadata(inputs: dict[str, Path], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        step.run(inputs, tmp_path / name, step.Parameters(), Silent())
        assert [path.name for path in (tmp_path / name).iterdir()] == ["annotations.parquet"]
        digests.add(hashlib.sha256((tmp_path / name / "annotations.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1
    schema = pq.read_schema(tmp_path / "a/annotations.parquet")
    assert b"pandas" not in (schema.metadata or {})
    assert str(schema.field("confidence").type) == "float" and str(schema.field("start").type) == "int64"


def test_a_parameter_changes_the_cuts(inputs: dict[str, Path], tmp_path: Path) -> None:
    coarse = step.run(inputs, tmp_path, step.Parameters(min_seconds=1.0), Silent())
    assert coarse["segments"] < 6


@pytest.mark.parametrize(
    ("task", "thing"),
    [
        ("lift the cube with the right arm", "the cube"),
        ("Insert the red peg into the blue socket", "the red peg"),
        ("pick a sweet potato from the counter and place it in the plate", "the sweet potato"),
        ("Pick up the yellow bottle on the table.", "the yellow bottle"),
        ("use the right arm to push the box", "the box"),
        ("wave", "the object"),
    ],
)
def test_the_object_of_a_task(task: str, thing: str) -> None:
    assert task_object(task) == thing


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("arm", ["left", "right"])
def test_every_action_has_a_sentence(action: str, arm: str) -> None:
    one = segment() if action == "wait" else segment(holding=(arm,)) if action == "hold" else segment((arm, action))
    sentence = sub_task(one, "push the box")
    assert sentence and "{" not in sentence
    assert (arm in sentence) == (action != "wait") and arm_name(one) == ("" if action == "wait" else arm)


def test_two_arms_share_a_sentence_or_join_two() -> None:
    task = "hand over the cube"
    assert sub_task(segment(("left", "reach"), ("right", "carry")), task) == (
        "move the left arm to the cube and carry the cube with the right arm"
    )
    assert sub_task(segment(("left", "close gripper"), ("right", "close gripper")), task) == "close both grippers"
    assert arm_name(segment(("left", "reach"), ("right", "carry"))) == "both"
    assert sub_task(segment(holding=("left", "right")), task) == "hold with both arms"
    assert sub_task(segment(("robot", "move")), task) == "move the robot"


def test_real_humanoid_data_is_annotated(shared: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "verdict"
    empty.mkdir()
    (empty / "quarantine.yaml").write_text("[]\n")
    output = tmp_path / "annotations"
    output.mkdir()
    dataset = shared / "datasets/gr1_sim_picknplace"
    summary = step.run({"dataset": dataset, "verdict": empty}, output, step.Parameters(), Silent())
    assert summary["episodes"] == 5 and summary["episodes_without_segments"] == 0
    rows = read_annotations(output)
    for episode in range(5):
        of_it = [row for row in rows if row["episode"] == episode]
        names = [row["atomic_action"] for row in of_it]
        closing = names.index("close gripper")
        assert of_it[closing]["sub_task"] == "close the right hand", episode
        assert {"reach", "approach"} & set(names[:closing]) and names[closing + 1] == "carry", episode
        assert set(names) <= {"approach", "reach", "close gripper", "carry", "hold", "wait", "retract"}, episode


def test_a_robot_has_parameters_of_its_own(shared: Path, tmp_path: Path) -> None:
    settings = settings_of("unitree_g1_inspire", step.Parameters(dip=0.4))
    assert (settings.smooth_seconds, settings.dip) == (0.2, 0.4)
    assert settings_of("unitree_g1_inspire", step.Parameters(smooth_seconds=0.1)).smooth_seconds == 0.1
    assert settings_of("aloha_sim", step.Parameters()) == SegmentationSettings()
    for robot, values in yaml.safe_load(ROBOTS.read_text()).items():
        assert robot in robot_ids() and SegmentationSettings(**values), robot
    (tmp_path / "verdict").mkdir()
    (tmp_path / "verdict/quarantine.yaml").write_text(
        "".join(f"- {{episode: {e}, rule: r, evidence: {{}}}}\n" for e in range(100) if e != 1)
    )
    inputs = {"dataset": shared / "datasets/g1_inspire_bottle", "verdict": tmp_path / "verdict"}
    assert step.run(inputs, tmp_path, step.Parameters(), Silent())["segments"] == 5
    assert step.run(inputs, tmp_path, step.Parameters(smooth_seconds=0.06), Silent())["segments"] > 10


def test_broken_inputs_are_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quarantine.yaml is missing"):
        step.run(inputs | {"verdict": tmp_path}, tmp_path, step.Parameters(), Silent())
    with pytest.raises(UserError, match="annotations.parquet is missing"):
        read_annotations(tmp_path)
    (tmp_path / "annotations.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no Parquet file"):
        read_annotations(tmp_path)
    (tmp_path / "sample.json").write_text("{}")
    with pytest.raises(UserError, match=r"sample.json is no Parquet file .*: give annotations"):
        read_annotations(tmp_path / "sample.json")
    write_annotations(tmp_path, [])
    assert read_annotations(tmp_path) == []
