"""A dataset read where it lies: on S3, through the protocol, frame by frame; faults in one sentence."""

from pathlib import Path

import numpy as np
import pytest

from components.adapters.filesystem import open_dataset
from components.adapters.storage import Storage
from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from tests.fixtures_lerobot import told, write_dataset


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_dataset_on_s3_is_the_one_on_disk(s3: object, tmp_path: Path, version: str) -> None:
    root = write_dataset(tmp_path / "set", version, lengths=(6, 7), depth=version == "v3.0")
    Storage.from_url("s3://artefacts/data").put_folder(root, "set")
    remote, local = open_dataset("s3://artefacts/data/set"), LeRobotDataset.open(root)
    assert remote.episodes == local.episodes and remote.info == local.info
    for episode in (0, 1):
        there, here = remote.arrays(episode), local.arrays(episode)
        np.testing.assert_array_equal(there.state, here.state)
        np.testing.assert_array_equal(there.action, here.action)
        assert there.task == here.task
    sample = remote.sample(1, 4, horizon=4, cameras=["cam_high"])
    assert told(sample.images["observation.images.cam_high"]) == (1, 4, 0)
    np.testing.assert_array_equal(sample.padding, [False, False, False, True])
    if remote.has_depth:
        ours, theirs = (next(dataset.depth(0, "cam_high", [3])) for dataset in (remote, local))
        np.testing.assert_array_equal(ours, theirs)


def test_a_missing_set_and_a_refusal_are_one_sentence(s3, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="s3://artefacts/nothing is not a LeRobot dataset: no such folder"):
        open_dataset("s3://artefacts/nothing")
    with pytest.raises(UserError, match="s3://no-such-bucket/set"):
        open_dataset("s3://no-such-bucket/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="s3://artefacts/set cannot be read .*AWS_ENDPOINT_URL") as error:
        open_dataset("s3://artefacts/set")
    assert "not-to-be-shown" not in str(error.value)


def test_a_folder_needs_no_store(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", lengths=(4,))
    assert open_dataset(str(root)).arrays(0).state.shape == (4, 14)
