"""The loader's benchmark, small: what it records, what it compares, and what it says."""

from pathlib import Path

import numpy as np
import pytest

from model.benchmark.loader import LoaderSettings, measure_loader
from model.benchmark.recording import GOP, HEIGHT, WIDTH, Recording, write_recording
from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from model.robots import find_robot, load_robot


def test_the_recording_is_a_dataset_of_gop_30_video(tmp_path: Path) -> None:
    write_recording(tmp_path / "set", Recording(robot=load_robot("aloha_sim"), episodes=1, frames=GOP + 5))
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert find_robot(dataset.info).id == "aloha_sim" and len(dataset.cameras) == 3
    assert dataset.arrays(0).state.shape == (GOP + 5, 14)
    clip = dataset.episode(0).videos[dataset.cameras[0]]
    assert clip is not None
    facts = dataset.clip(clip)[0].facts
    assert (facts.frames, facts.height, facts.width, len(facts.key_pts)) == (GOP + 5, HEIGHT, WIDTH, 2)
    first, second = dataset.frames(0, dataset.cameras[0], [0, GOP])
    assert first.std() > 20 and np.abs(first.astype(int) - second).mean() > 5, "the scene moves"


def test_every_variant_is_measured_on_the_same_rows_and_compared_with_the_videos() -> None:
    told: list[str] = []
    settings = LoaderSettings(image_size=32, batch=4, horizon=2, batches=3, video_batches=1, episodes=2, frames=8)
    figures = measure_loader(settings, told.append)
    assert list(figures["variants"]) == ["jpeg", "uint8", "h264", "video", "pool"]
    assert figures["times_video"]["video"] == 1.0 and set(figures["times_video"]) == set(figures["variants"])
    assert figures["variants"]["uint8"]["bytes_per_frame"] == 32 * 32 * 3
    for own in figures["variants"].values():
        assert own["samples_per_second"] > 0 and own["cpu_ms_per_sample"] > 0 and own["stated_bytes"] > 0
    assert sum("samples/s by the clock" in text for text in told) == 5


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="unknown loader 'jpg'.*Did you mean 'jpeg'"):
        LoaderSettings(variants=("jpg",))
    with pytest.raises(UserError, match="batches is 0"):
        LoaderSettings(batches=0)
