"""What a mixture's file may say, which sets fit beside each other, and the vector that a policy's robots share."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components import state
from components.train import finetune, pretrain, recipe
from components.train.mixture_file import digest, read_mixture
from components.train.sets import check_commands, open_sets, shares, teacher_of
from model.bundle import load_bundle
from model.config import preset
from model.data.text import InstructionTokenizer
from model.depth.finish import write_unavailable
from model.errors import UserError
from model.progress import Silent
from model.robots import load_robot
from tests.model.data.demonstrations import TASKS, pack_memory

SMALL: Mapping[str, Any] = {"steps": 1, "batch_size": 2, "draws": 1, "warmup_steps": 0, "precision": "fp32"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    pack_memory(folder / "packed", image_size=56)
    (folder / "tokens").mkdir()
    write_unavailable(folder / "tokens", "the dataset has no depth")
    return {"packed": folder / "packed", "tokens": folder / "tokens"}


def beside(folder: Path, inputs: Mapping[str, Path], **meta: object) -> str:
    """A mixture file of one further set: the run's own with another description."""
    shutil.copytree(inputs["packed"], folder / "other")
    path = folder / "other/meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | meta))
    (folder / "mixture.yaml").write_text("sets: [{packed: other, weight: 0.5}]")
    return str(folder / "mixture.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not valid YAML"),
        ("weight: 1", "lists no sets: write 'sets:'"),
        ("sets: []", "lists no sets"),
        ("sets: [other]", "set 1 of the mixture .* is 'other': it must have 'run' or 'packed'"),
        ("set: []\nsets: [{run: a, weight: 1}]", "unknown key of the mixture .* Did you mean 'sets'"),
        ("sets: [{packed: other, wieght: 1}]", "unknown key of set 1 .* Did you mean 'weight'"),
        ("sets: [{packed: other}]", "set 1 .* has weight None: it must be a number above 0"),
        ("weight: 0\nsets: [{packed: other, weight: 1}]", "has weight 0: it must be a number above 0"),
        ("sets: [{weight: 1}]", "names no data: give 'run', or 'packed'"),
        ("sets: [{packed: other, weight: 1}]", r"there is no folder 'other' \(packed\)"),
        ("sets: [{packed: ., tokens: gone, weight: 1}]", r"there is no folder 'gone' \(tokens\)"),
        ("sets: [{run: a, packed: other, weight: 1}]", "gives a run and folders: leave out 'packed'"),
        ("sets: [{run: 20261122-180000-abce, weight: 1}]", "unknown run in .* Did you mean '20261122-180000-abcd'"),
        ("sets: [{run: 20261122-180000-abcd, weight: 1}]", "run 20261122-180000-abcd has not finished 'pack'"),
    ],
)
def test_a_wrong_mixture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    steps = [{"name": "collect", "status": "done", "fingerprint": "00"}, {"name": "pack", "status": "failed"}]
    state.write_json(state.run_folder("20261122-180000-abcd") / "run.json", {"schema_version": 1, "steps": steps})
    (tmp_path / "mixture.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_mixture(tmp_path / "mixture.yaml")


def test_a_mixture_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the mixture .*gone.yaml"):
        digest("pretrain.mixture", str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ({"image_size": 28}, "has frames of 28 px, the run's own 56: pack it with pack.image_size=56"),
        ({"fps": 50.0}, "has actions at 50 Hz, the run's own 10: a chunk of actions would last another time"),
        ({"robot_type": "my_robot"}, "my_robot has no layout in common with other robots: write a YAML"),
    ],
)
def test_a_set_that_does_not_fit_beside_the_runs_own_is_named(
    tmp_path: Path, inputs: dict[str, Path], meta: dict[str, object], sentence: str
) -> None:
    path = beside(tmp_path, inputs, **meta)
    with pytest.raises(UserError, match=sentence):
        open_sets(inputs, path)


def test_sets_of_one_robot_share_its_statistics(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Its values mean the same whichever set they come from, and those of the run's own set are what is exported."""
    path = beside(tmp_path, inputs)
    statistics = tmp_path / "other/statistics.json"
    values = json.loads(statistics.read_text())
    values["state"]["mean"] = [mean + 1 for mean in values["state"]["mean"]]
    statistics.write_text(json.dumps(values))
    sets = open_sets(inputs, path)
    assert [entry["share"] for entry in shares(sets)] == [0.6667, 0.3333]
    own, other = (one.packed.statistics["state"].mean for one in sets)
    assert (other == own + 1).all()
    tokenizer = InstructionTokenizer.train(TASKS, 512)
    prepared = recipe.preparations(sets, preset("debug"), "meanstd", tokenizer)
    assert (prepared[1].statistics["state"].mean == own).all() and prepared[1].state == prepared[0].state
    assert [one.views for one in prepared] == [(0, 1, 2)] * 2


@dataclass
class Tokens:
    available: bool = True
    online: bool = False
    tokens_per_view: int = 16
    channels: int = 192
    weights_digest: str = "a" * 64
    reason: str = ""


def test_a_robot_that_only_its_dataset_describes_is_trained_and_exported(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Its dimensions keep the dataset's own order, from 0."""
    beside(tmp_path, inputs, robot_type="My robot 2")
    own = {**inputs, "packed": tmp_path / "other"}
    pretrain.run(own, tmp_path, pretrain.Parameters(preset="debug", horizon=4, **SMALL), Silent())
    finetune.run({**own, "checkpoint": tmp_path}, tmp_path / "policy", finetune.Parameters(**SMALL), Silent())
    bundle = load_bundle(tmp_path / "policy/bundle")
    assert bundle.robot.id == "my_robot_2" and bundle.preparation.action.transforms[-1].slots == tuple(range(14))


@pytest.mark.parametrize("other", [{"tokens_per_view": 64}, {"channels": 8}, {"weights_digest": "b" * 64}])
def test_tokens_of_other_teachers_do_not_mix(inputs: dict[str, Path], other: dict[str, Any]) -> None:
    (own,) = open_sets(inputs)
    like = replace(own, tokens=Tokens())
    assert teacher_of((own, like, like)) is like.tokens and teacher_of((own,)) is None
    with pytest.raises(UserError, match="are not like those of the run .* extract them with the same teacher"):
        teacher_of((like, own, replace(own, tokens=Tokens(**other))))


def test_a_policy_of_55_dimensions_is_trained_and_exported(inputs: dict[str, Path], tmp_path: Path) -> None:
    chosen = pretrain.Parameters(preset="debug", horizon=4, dimensions=55, **SMALL)
    pretrain.run(inputs, tmp_path, chosen, Silent())
    finetune.run({**inputs, "checkpoint": tmp_path}, tmp_path / "policy", finetune.Parameters(**SMALL), Silent())
    bundle = load_bundle(tmp_path / "policy/bundle")
    assert bundle.config.dimensions == 55
    assert bundle.preparation.action.transforms[-1].slots == bundle.robot.unified_action_slots


def test_a_robot_that_a_policy_could_not_move_is_refused() -> None:
    check_commands(load_robot("aloha_sim"), 55)
    check_commands(load_robot("gr1"), 75)
    with pytest.raises(UserError, match="13 of the 44 actions of gr1 have no place in 55 dimensions .*dimensions=75"):
        check_commands(load_robot("gr1"), 55)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="dimensions is 14: robots are placed in 75 dimensions .* or 55"):
        pretrain.Parameters(dimensions=14)


def test_a_checkpoint_keeps_its_dimensions(inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(inputs, tmp_path, pretrain.Parameters(preset="debug", horizon=4, **SMALL), Silent())
    wrong = pretrain.Parameters(initial_checkpoint=str(tmp_path), dimensions=55, **SMALL)
    with pytest.raises(UserError, match="dimensions is 55, but the policy in .* has 75: leave pretrain.dimensions"):
        pretrain.run(inputs, tmp_path / "second", wrong, Silent())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"saturation": 2.0}, "saturation is 2.0: it is a share"),
        ({"view_dropout": -0.1}, "view_dropout is -0.1: it is a share"),
        ({"crop": 1.0}, "crop is 1.0: it is the share of a side that may go"),
    ],
)
def test_impossible_augmentation_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        finetune.Parameters(**values)  # type: ignore[arg-type]
