"""The reader against real datasets of each version."""

from pathlib import Path

import numpy as np
import pytest

from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from model.robots import find_robot


def test_gr1_with_its_quirks(shared: Path) -> None:
    dataset = LeRobotDataset.open(shared / "datasets/gr1_sim_picknplace")
    assert dataset.info.version == "v2.0"
    assert dataset.info.cameras == ("observation.images.egoview", "observation.images.ego_view")
    assert dataset.cameras == ("observation.images.ego_view",)
    assert {remark.evidence["key"] for remark in dataset.remarks} == {"data_path", "video_path"}
    tasks = [dataset.arrays(episode.index).task for episode in dataset.episodes]
    assert [task.split()[2] for task in tasks] == ["pear", "sweet", "meat", "salt", "cupcake"]
    arrays = dataset.arrays(3)
    assert arrays.state.shape == arrays.action.shape == (412, 44)
    assert arrays.timestamp[0] == pytest.approx(0.05)
    assert sum(1 for _ in dataset.frames(4, "ego_view", range(320, 328))) == 8
    assert find_robot(dataset.info).id == "gr1"


def test_g1_with_its_missing_parts(shared: Path) -> None:
    dataset = LeRobotDataset.open(shared / "datasets/g1_inspire_bottle")
    assert dataset.info.version == "v2.1"
    assert len(dataset.episodes) == dataset.info.total_episodes == 100
    assert [episode.index for episode in dataset.episodes if episode.table] == list(range(10))
    camera = "observation.images.cam_high"
    assert [episode.index for episode in dataset.episodes if episode.videos[camera]] == [1, 2, 4, 5]
    assert len(dataset.info.state_names) == 26
    assert dataset.arrays(0).task == "Pick up the yellow bottle on the table."
    (image,) = dataset.frames(5, "cam_high", [200])
    assert image.shape == (480, 640, 3)
    with pytest.raises(UserError, match="episode 50: its table is missing"):
        dataset.arrays(50)
    robot = find_robot(dataset.info)
    assert robot.id == "unitree_g1_inspire"
    assert robot.state_names == dataset.info.state_names


def test_aloha_of_lerobot_itself(shared: Path) -> None:
    dataset = LeRobotDataset.open(shared / "datasets/aloha_sim_insertion_3cam_224")
    assert dataset.info.version == "v3.0"
    assert [dataset.arrays(episode.index).state.shape for episode in dataset.episodes] == [(400, 14)] * 5
    # The arms start each episode in the same pose: the first frames of two episodes in one file look alike, the frame
    # before (the end of the episode before) does not.
    first, second = (next(dataset.frames(episode, "cam_high", [0])).astype(int) for episode in (2, 3))
    before = next(dataset.frames(2, "cam_high", [399])).astype(int)
    assert np.abs(first - second).mean() < 0.5 * np.abs(before - second).mean()
    assert find_robot(dataset.info).id == "aloha_sim"
