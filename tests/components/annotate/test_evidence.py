"""What a model is shown: pictures of the right frames, no larger than asked for, each decoded once."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.annotate.evidence import FrameSettings, describe_motion, episode_questions
from components.annotate.prompts import Frame, Question
from components.annotate.vocabulary import Vocabulary
from model.data.lerobot import LeRobotDataset
from model.data.segmentation import AtomicSegment, SegmentationSettings, segment_episode
from model.robots import find_robot
from tests.components.annotate.recordings import ALOHA, FPS, write_picks

EPISODE, PIXELS = 1, 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    return LeRobotDataset.open(write_picks(tmp_path_factory.mktemp("picks") / "dataset", 2, pixels=PIXELS))


def segments(dataset: LeRobotDataset) -> tuple[AtomicSegment, ...]:
    arrays = dataset.arrays(EPISODE)
    return segment_episode(arrays.state, arrays.action, FPS, ALOHA, arrays.eef_pose, settings=SegmentationSettings())


def questions(dataset: LeRobotDataset, size: int = 448) -> list[Question]:
    settings = FrameSettings(frames=3, size=size)
    arrays = dataset.arrays(EPISODE)
    return episode_questions(dataset, ALOHA, EPISODE, arrays, segments(dataset), Vocabulary(), settings)


def picture(frame: Frame) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))


def test_pictures_are_of_the_times_that_they_say(dataset: LeRobotDataset) -> None:
    asked = questions(dataset)
    assert [len(question.frames) for question in asked] == [9] * (1 + len(segments(dataset)))
    for frame in (frame for question in asked for frame in question.frames):
        number = round(frame.seconds * FPS)
        red, green, blue = picture(frame).reshape(-1, 3).mean(0)
        assert abs(red - number * 4 % 256) < 6 and abs(green - EPISODE * 37) < 6 and blue < 10  # as write_picks paints


def test_the_joints_tell_what_a_hand_did(shared: Path) -> None:
    humanoid = LeRobotDataset.open(shared / "datasets/g1_inspire_bottle")
    told = describe_motion(find_robot(humanoid.info), humanoid.arrays(1), 170, 190, humanoid.info.fps)
    left, right = told.split("; ")
    assert "hand" not in left, "it hardly moves"
    found = re.search(r"its hand went from (\d+)% to (\d+)% open", right)
    assert found and int(found[1]) > 50 and int(found[2]) < 10, told


@pytest.mark.parametrize(("size", "expected"), [(448, PIXELS), (PIXELS, PIXELS), (20, 20)])
def test_a_picture_is_made_smaller_and_never_larger(dataset: LeRobotDataset, size: int, expected: int) -> None:
    frames = questions(dataset, size)[0].frames
    assert {picture(frame).shape for frame in frames} == {(expected, expected, 3)}


def test_each_frame_is_decoded_once(dataset: LeRobotDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[tuple[str, int]] = Counter()
    real = dataset.frames

    def frames(episode: int, camera: str, indices: Sequence[int]) -> Iterator[Any]:
        decoded.update((camera, index) for index in indices)
        return real(episode, camera, indices)

    monkeypatch.setattr(dataset, "frames", frames)
    questions(dataset)
    assert len(decoded) > 9 and set(decoded.values()) == {1}
