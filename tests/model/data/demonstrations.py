"""Demonstrations in memory, with the interface of `model.data.lerobot.LeRobotDataset` that packing uses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.data.lerobot import EpisodeArrays
from model.data.lerobot_layout import DatasetInfo, Episode, Feature
from model.data.packed_format import PackedMeta
from model.data.packing import pack
from model.data.packing_plan import PackingSettings
from model.progress import Silent
from model.robots import load_robot

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
TASKS = ("lift the cube with the right arm", "lift the cube with the left arm")


def colour(episode: int, camera: str, frame: int) -> np.ndarray:
    """The one colour of a whole image, far enough apart to survive JPEG: what it should decode to."""
    return np.array([20 + 25 * episode, 60 + 60 * CAMERAS.index(camera), 10 * frame % 250], np.uint8)


@dataclass
class MemoryDataset:
    """Two tasks in turn; the right gripper closes at frame 5, the pose of episode e at frame t is e + t / 100."""

    lengths: tuple[int, ...] = (12, 9, 10, 8)
    cameras_present: tuple[str, ...] = CAMERAS
    fps: float = 10.0
    size: tuple[int, int] = (24, 32)
    eef: bool = True
    root: str = "memory"
    missing_after: int | None = None  # frames that a video holds
    read: list[tuple[int, str]] = field(default_factory=list)

    @property
    def info(self) -> DatasetInfo:
        features = {camera: Feature(key=camera, dtype="video", shape=(*self.size, 3)) for camera in self.cameras}
        features |= {key: Feature(key=key, dtype="float32", shape=(14,)) for key in ("observation.state", "action")}
        return DatasetInfo(
            version="v3.0",
            robot_type="aloha_sim",
            fps=self.fps,
            features=features,
            total_episodes=len(self.lengths),
            total_frames=sum(self.lengths),
            total_tasks=2,
            chunks_size=1000,
            data_path="",
            video_path="",
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(f"observation.images.{name}" for name in self.cameras_present)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return tuple(
            Episode(index=index, length=length, tasks=(TASKS[index % 2],), table="memory")
            for index, length in enumerate(self.lengths)
        )

    def arrays(self, episode: int) -> EpisodeArrays:
        length = self.lengths[episode]
        time = np.arange(length, dtype=np.float32)
        state = np.zeros((length, 14), np.float32)
        state[:, 0], state[:, 1] = episode, time
        action = state + 0.5
        action[:, [6, 13]] = 1.0
        action[5:, 13] = 0.0
        pose = np.zeros((length, 14), np.float32)
        pose[:, 7:10] = episode + time[:, None] / 100
        return EpisodeArrays(
            state=state,
            action=action,
            timestamp=time.astype(np.float64) / self.fps,
            task=TASKS[episode % 2],
            eef_pose=pose if self.eef else None,
        )

    def frames(self, episode: int, camera: str, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        name = camera.removeprefix("observation.images.")
        self.read.append((episode, name))
        for frame in range(self.lengths[episode]) if indices is None else indices:
            if self.missing_after is not None and frame >= self.missing_after:
                return
            yield np.broadcast_to(colour(episode, name, frame), (*self.size, 3)).copy()


def pack_memory(output: Path, dataset: MemoryDataset | None = None, **options) -> PackedMeta:
    """Pack a dataset in this process; `options` are fields of PackingSettings, or quarantined and segments."""
    output.mkdir(parents=True, exist_ok=True)
    given = {name: options.pop(name) for name in ("quarantined", "segments", "progress") if name in options}
    settings = {"image_size": 16, "holdout_fraction": 0.25} | options
    return pack(
        dataset or MemoryDataset(),
        load_robot("aloha_sim"),
        output,
        PackingSettings(**settings),
        **({"quarantined": frozenset(), "segments": {}, "progress": Silent(), "workers": 1} | given),
    )
