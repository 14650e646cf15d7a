"""Texts by a vision-language model of transformers from a folder: a tiny Qwen3-VL, loaded and asked for real."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.annotate import local_model, step
from components.annotate.evidence import FrameSettings, episode_questions
from components.annotate.local_model import messages
from components.annotate.local_processor import load_processor
from components.annotate.parameters import Parameters
from components.annotate.prompts import Question
from components.annotate.vocabulary import Vocabulary
from components.annotate.writing import open_model
from model.data.annotations import read_annotations
from model.data.lerobot import LeRobotDataset
from model.data.segmentation import segment_episode
from model.errors import UserError
from model.progress import Silent
from tests.components.annotate.chat_server import valid_answer
from tests.components.annotate.recordings import ALOHA, moving, no_quarantine, write_picks
from tests.components.annotate.tiny_vlm import write_tiny_vlm

SHOWN = {"frames": 1, "frame_size": 32}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("local")
    dataset = write_picks(root / "dataset", 1, ("cam_high",), moving)  # one segment
    return {"dataset": dataset, "verdict": no_quarantine(root / "verdict")}


@pytest.fixture(scope="module")
def questions(inputs: dict[str, Path]) -> list[Question]:
    dataset = LeRobotDataset.open(inputs["dataset"])
    arrays = dataset.arrays(0)
    cut = segment_episode(arrays.state, arrays.action, dataset.info.fps, ALOHA, arrays.eef_pose)
    return episode_questions(dataset, ALOHA, 0, arrays, cut, Vocabulary(), FrameSettings(frames=1, size=32))


@pytest.fixture(scope="module")
def checkpoint(questions: list[Question], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-qwen3-vl")
    return write_tiny_vlm(folder, questions, lambda question: json.dumps(valid_answer(question.kind)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))


def annotate(
    inputs: dict[str, Path], output: Path, checkpoint: Path, **changed: Any
) -> tuple[dict[str, Any], list[dict]]:
    output.mkdir()
    given = {"writer": "local", "checkpoint": str(checkpoint), **SHOWN}
    summary = step.run(inputs, output, step.Parameters(**given | changed), Silent())
    return summary, read_annotations(output)


@pytest.mark.slow
def test_a_model_from_a_folder_writes_the_texts_once(inputs: dict[str, Path], checkpoint: Path, tmp_path: Path) -> None:
    summary, rows = annotate(inputs, tmp_path / "one", checkpoint)
    assert [(row["task"], row["sub_task"], row["verb"], row["objects"]) for row in rows] == [
        ("move the red cube to the left", "pick up the red cube with the right arm", "pick up", "red cube")
    ]
    (source,) = {row["source"] for row in rows}
    assert source.startswith(f"{checkpoint.name}@")
    assert summary["requests"] == 2 and not summary["failed_requests"]
    assert summary["input_tokens"] > 600 and summary["output_tokens"] > 30
    again, same = annotate(inputs, tmp_path / "two", checkpoint)
    assert again["requests"] == 0 and same == rows


@pytest.mark.slow
def test_an_answer_that_is_cut_off_is_no_answer(
    inputs: dict[str, Path], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_model, "ANSWER_TOKENS", 8)
    _, rows = annotate(inputs, tmp_path / "out", checkpoint, attempts=1, failed_share=1.0)
    assert {row["review_state"] for row in rows} == {"failed"} and {row["source"] for row in rows} == {"template"}
    assert "the JSON object is cut off or broken" in rows[0]["reason"]


@pytest.mark.slow
def test_the_model_sees_every_picture_and_the_schema(questions: list[Question], checkpoint: Path) -> None:
    """Released Qwen folders name an image processor, and have one for videos, that need torchvision."""
    processor = load_processor(str(checkpoint))
    assert not hasattr(processor, "video_processor")
    asked = messages(questions[1], "there is no JSON object")
    inputs = processor.apply_chat_template(
        asked, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    text = processor.decode(inputs["input_ids"][0])
    assert text.count("<|vision_start|>") == len(inputs["image_grid_thw"]) == len(questions[1].frames) == 1
    assert "cam_high at " in text and "additionalProperties" in text
    assert text.endswith("there is no JSON object. Answer again.<|im_end|>\n<|im_start|>assistant\n")


def test_a_folder_without_a_model_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty', from which transformers loads no vision-language model"):
        annotate(inputs, tmp_path / "out", tmp_path / "empty")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model-00001-of-00002.bin"])
def test_other_weights_have_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """What one model answered must not be taken for the answer of another in a folder of the same name."""
    monkeypatch.setattr(local_model, "LocalModel", lambda path, name: name)
    names = set()
    for number in range(2):
        folder = tmp_path / str(number) / "vlm"
        folder.mkdir(parents=True)
        (folder / file).write_bytes(bytes([number]))
        names.add(open_model(Parameters(writer="local", checkpoint=str(folder))))
    assert len(names) == 2 and all(str(name).startswith("vlm@") for name in names)
