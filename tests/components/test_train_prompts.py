"""Training by a mix of tasks and annotated sub-tasks: which sentences the policy is made for, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from components.train import finetune, pretrain
from model.data.packing_tables import Segment
from model.errors import UserError
from model.progress import Silent
from tests.components.training_inputs import training_inputs
from tests.model.data.demonstrations import TASKS, pack_memory

SMALL: dict[str, Any] = {"steps": 2, "batch_size": 4, "draws": 1, "warmup_steps": 1}
WHOLE = "take the red cube off the table"
LONG = "close the right gripper around the small red cube that lies nearest to the middle of the white table"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first four frames of each episode are a reach, the next two have a long sentence, the rest none."""
    folder = tmp_path_factory.mktemp("prompts")
    inputs = training_inputs(folder / "plain")
    reach = Segment(start=0, end=4, sub_task="reach for the cube", task=WHOLE)
    segments = {episode: [reach, Segment(start=4, end=6, sub_task=LONG, task=WHOLE)] for episode in range(4)}
    pack_memory(folder / "packed", image_size=56, segments=segments)
    return {**inputs, "packed": folder / "packed", "plain": inputs["packed"]}


def pretrained(inputs: dict[str, Path], output: Path, share: float, whole: float = 0.0) -> dict[str, Any]:
    parameters = pretrain.Parameters(preset="debug", horizon=4, sub_task_share=share, task_text_share=whole, **SMALL)
    pretrain.run(inputs, output, parameters, Silent())
    return json.loads((output / "config.json").read_text())["policy"]


def test_the_policy_has_room_for_the_longest_sub_task_and_learns_from_them(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    without, mixed = (pretrained(inputs, tmp_path / name, share) for name, share in (("0", 0.0), ("5", 0.5)))
    assert mixed["text"]["max_length"] > without["text"]["max_length"]
    tuned = {}
    for told in ("task", "sub_task", "task_text"):
        output = tmp_path / f"tuned by {told}"
        shares: dict[str, Any] = {} if told == "task" else {f"{told}_share": 1.0}
        parameters = finetune.Parameters(task=TASKS[1], **shares, **SMALL)
        made = finetune.run({**inputs, "checkpoint": tmp_path / "5"}, output, parameters, Silent())
        assert made["task"] == TASKS[1], "whatever its episodes are called"
        tuned[told] = load_file(output / "bundle/model.safetensors")
        card = (output / "bundle/MODEL_CARD.md").read_text()
        assert ("100% of the annotated samples by their sub-task." in card) == (told == "sub_task")
        assert ("100% of those that keep their task by what was annotated for the whole episode." in card) == (
            told == "task_text"
        )
    for told in ("sub_task", "task_text"):
        assert any((tuned["task"][name] != tuned[told][name]).any() for name in tuned["task"]), told


def test_sub_tasks_that_are_not_asked_for_change_no_weight(inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrained(inputs, tmp_path / "annotated", 0.0)
    pretrained({**inputs, "packed": inputs["plain"]}, tmp_path / "plain", 0.0)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "annotated" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_sentence_that_the_pretrained_policy_would_cut_off_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    pretrained(inputs, tmp_path / "0", 0.0)
    for name, sentence in (("sub_task_share", LONG), ("task_text_share", WHOLE)):
        parameters = finetune.Parameters(task=TASKS[1], **{**SMALL, name: 0.5})
        with pytest.raises(
            UserError, match=f"'{sentence}' takes [0-9]+ tokens, .* its share of such sentences above 0"
        ):
            finetune.run({**inputs, "checkpoint": tmp_path / "0"}, tmp_path / "tuned", parameters, Silent())


def test_sub_tasks_without_annotations_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sub_task_share is 0.5, but .* has no annotated sub-task"):
        pretrained({**inputs, "packed": inputs["plain"]}, tmp_path / "out", 0.5)
    with pytest.raises(UserError, match=r"task_text_share is 0.5, but .* has no annotated task text that differs"):
        pretrained({**inputs, "packed": inputs["plain"]}, tmp_path / "out", 0.0, 0.5)
    for name in ("sub_task_share", "task_text_share"):
        with pytest.raises(UserError, match=f"{name} is 2"):
            pretrain.Parameters(**dict[str, Any]({name: 2}))
