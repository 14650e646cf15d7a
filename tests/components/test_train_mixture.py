"""A mixture through the steps: two generated datasets of different robots, packed, mixed, fine-tuned and exported."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components import records, state
from components.artifacts import Artifact
from components.execution import execute
from components.steps import STEPS
from model.bundle import load_bundle
from model.data.annotations import write_annotations
from model.data.lerobot_writer import LeRobotWriter
from model.data.seen import read_seen
from model.inference import Observation
from model.robots import load_robot
from tests.components.small_steps import make_step

LENGTH, SIZE = 8, 56
TASKS = {"aloha_sim": "lift the cube with the right arm", "unitree_g1_inspire": "pick the bottle"}
TRAINING = {"steps": 2, "batch_size": 4, "draws": 1, "warmup_steps": 1, "save_every": 5, "precision": "fp32"}
RUN = "20261122-180000-abcd"


def write_dataset(root: Path, name: str) -> None:
    """Three episodes of noise; the arms in simulation have depth, the humanoid has none."""
    robot, random = load_robot(name), np.random.default_rng(len(name))
    cameras, depth = tuple(robot.cameras.values()), name == "aloha_sim"
    writer = LeRobotWriter(
        root, fps=10, robot_type=name, state_names=robot.state_names, action_names=robot.action_names,
        cameras=dict.fromkeys(cameras, (SIZE, SIZE)), depth=depth,
    )  # fmt: skip
    for _ in range(3):
        values = random.normal(size=(LENGTH, len(robot.action_names))).astype(np.float32)
        writer.add_episode(
            task=TASKS[name], state=values, action=values, eef_pose=random.normal(size=(LENGTH, 14)).astype(np.float32),
            images={key: random.integers(0, 256, (LENGTH, SIZE, SIZE, 3)).astype(np.uint8) for key in cameras},
            depth={key: random.uniform(0.3, 1.5, (LENGTH, SIZE, SIZE)).astype(np.float32) for key in cameras}
            if depth
            else None,
        )  # fmt: skip
    writer.finish()


def made_by(name: str, robot: str, work: Callable[[Path], None]) -> Artifact:
    """An artefact of a step that a test stands in for."""
    step, _ = make_step(name, lambda inputs, output, parameters, progress: work(output))
    return execute(step, {}, {"label": robot}, version="1")


def quarantine_nothing(folder: Path) -> None:
    (folder / "quarantine.yaml").write_text("[]\n")


def prepare(robot: str) -> dict[str, Artifact]:
    """Packed frames and depth tokens of a robot's dataset."""
    dataset = made_by("collect", robot, lambda folder: write_dataset(folder, robot))
    verdict = made_by("validate", robot, quarantine_nothing)
    annotations = made_by("annotate", robot, lambda folder: write_annotations(folder, []))
    tokens = {"image_size": SIZE, "num_tokens": 16}
    given = {"dataset": dataset, "verdict": verdict}
    return {
        "tokens": execute(STEPS["extract_depth_tokens"], given, tokens),
        "packed": execute(STEPS["pack"], {**given, "annotations": annotations}, {"image_size": SIZE}),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("LINGBOT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def humanoid(home: Path) -> dict[str, Artifact]:
    return prepare("unitree_g1_inspire")


@pytest.fixture(scope="module")
def arms(home: Path) -> dict[str, Artifact]:
    """And the record of the run that packed them."""
    made = prepare("aloha_sim")
    steps = [{"name": one.step, "status": "done", "fingerprint": one.fingerprint} for one in made.values()]
    state.write_json(state.run_folder(RUN) / "run.json", {"schema_version": 1, "steps": steps})
    return made


@pytest.fixture(scope="module")
def mixture(home: Path, arms: dict[str, Artifact]) -> Path:
    path = home / "mixture.yaml"
    path.write_text(yaml.safe_dump({"weight": 1, "sets": [{"run": RUN, "weight": 3}]}))
    return path


@pytest.fixture(scope="module")
def pretrained(humanoid: dict[str, Artifact], mixture: Path) -> Artifact:
    values: dict[str, Any] = {"preset": "debug", "horizon": 4, "mixture": str(mixture), "order": "epochs"}
    return execute(STEPS["pretrain"], humanoid, values | TRAINING)


def folder_of(artifact: Artifact) -> Path:
    return records.data_folder(artifact.step, artifact.fingerprint)


@pytest.mark.slow
def test_one_robots_run_learns_from_the_others_set_as_well(pretrained: Artifact) -> None:
    config = json.loads((folder_of(pretrained) / "config.json").read_text())
    assert config["policy"]["views"] == 3 and config["policy"]["depth"]["target_tokens"] == 16
    assert pretrained.summary["depth_alignment"] == "on"
    shares = [{"robot": "unitree_g1_inspire", "share": 0.25}, {"robot": "aloha_sim", "share": 0.75}]
    assert [{key: one[key] for key in ("robot", "share")} for one in pretrained.summary["mixture"]] == shares
    assert set(pretrained.sources) == {"mixture"}
    metrics = [json.loads(line) for line in (folder_of(pretrained) / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["action"]) and line["depth"] > 0 for line in metrics)


@pytest.mark.slow
def test_fine_tuning_goes_on_with_the_runs_own_robot(humanoid: dict[str, Artifact], pretrained: Artifact) -> None:
    policy = execute(STEPS["finetune"], {**humanoid, "checkpoint": pretrained}, TRAINING)
    bundle = load_bundle(folder_of(policy) / "bundle")
    assert bundle.robot.id == "unitree_g1_inspire" and bundle.preparation.views == (0,)
    assert [camera["name"] for camera in bundle.contract["cameras"]] == list(bundle.robot.cameras.values())
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    seen = Observation(
        images={bundle.preparation.cameras[0]: image}, state=np.zeros(26, np.float32), task=TASKS["unitree_g1_inspire"]
    )
    assert bundle.inputs([seen]).image_mask.tolist() == [[True, False, False]]
    assert bundle.infer([seen]).shape == (1, 4, 26)
    card = (bundle.path / "MODEL_CARD.md").read_text()
    both, other = read_seen(bundle.path).sets
    assert both.name == "pretrain and finetune (unitree_g1_inspire)" and other.name == "pretrain (aloha_sim)"
    assert [len(one.episodes) for one in (both, other)] == [2, 2]
    assert "Pretrained on a mixture: unitree_g1_inspire 25%, 2 episodes; aloha_sim 75%, 2 episodes." in card


@pytest.mark.slow
def test_what_is_mixed_counts_and_not_where_it_lies(
    humanoid: dict[str, Artifact], arms: dict[str, Artifact], pretrained: Artifact, mixture: Path, tmp_path: Path
) -> None:
    from components.execution import plan_fingerprint

    for name, artifact in arms.items():
        shutil.copytree(folder_of(artifact), tmp_path / name)
    moved = tmp_path / "moved.yaml"
    moved.write_text("# the same sets in another place\nsets: [{packed: packed, tokens: tokens, weight: 3}]\n")

    def planned(path: Path) -> str:
        digests = {name: artifact.digest for name, artifact in humanoid.items()}
        values = {**pretrained.parameters, "mixture": str(path)}
        return plan_fingerprint(STEPS["pretrain"], digests, values, pretrained.code_version)

    assert planned(mixture) == planned(moved) == pretrained.fingerprint
    statistics = tmp_path / "packed/statistics.json"
    statistics.write_text(statistics.read_text() + "\n")
    assert planned(moved) != pretrained.fingerprint
