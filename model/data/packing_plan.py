"""What is packed: the settings, the usable episodes with their numbers, the cameras, and the holdout split."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.data.bad_samples import SampleError
from model.data.frame_codecs import CODECS, check_quality
from model.data.packed_format import HOLDOUT, TRAIN
from model.errors import UserError, unknown_name
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import EpisodeArrays, LeRobotDataset
    from model.robots import Robot


@dataclass(frozen=True, kw_only=True)
class PackingSettings:
    """How to pack.

    Attributes:
        image_size: pixels of the square training frames.
        rate: packed frames a second at most; every round(fps / rate)-th frame of an episode is packed. States and
            actions always keep the dataset's own rate.
        codec: of the packed frames: jpeg, uint8 or h264 (frame_codecs has their sizes and speeds).
        jpeg_quality: of JPEG frames, 4:4:4.
        video_crf: of H.264 frames, 4:4:4; lower is better and larger.
        unreadable_episodes: that many episodes may be left out because they cannot be read; each is named in meta.json.
            One more stops the step. 0 stops at the first.
        holdout_fraction: of the episodes, kept out of training and of the statistics.
        seed: of the holdout split.
    """

    image_size: int = 112
    rate: float = 10.0
    codec: str = "jpeg"
    jpeg_quality: int = 95
    video_crf: int = 18
    unreadable_episodes: int = 0
    holdout_fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 2048:
            raise UserError(f"image_size is {self.image_size}: it must be 16 to 2048 pixels.")
        if not self.rate > 0:
            raise UserError(f"rate is {self.rate}: it must be above 0 frames a second.")
        if self.codec not in CODECS:
            raise unknown_name("frame codec", self.codec, CODECS)
        check_quality(self.jpeg_quality, self.video_crf)
        if self.unreadable_episodes < 0:
            raise UserError(f"unreadable_episodes is {self.unreadable_episodes}: it must be 0 or more.")
        if not 0 <= self.holdout_fraction < 1:
            raise UserError(f"holdout_fraction is {self.holdout_fraction}: it must lie in [0, 1).")


class LeftOut:
    """The episodes that could not be read, within the budget of `unreadable_episodes`.

    Attributes:
        reasons: by episode, one sentence without the dataset's place: packed bytes do not depend on where it lay.
    """

    def __init__(self, root: str, budget: int, progress: Progress) -> None:
        self._root = root
        self._budget = budget
        self._progress = progress
        self.reasons: dict[int, str] = {}

    def add(self, error: SampleError) -> None:
        """Count an episode; raises, naming all of them, when that is one more than the budget."""
        self.reasons[error.episode] = str(error).removeprefix(f"{self._root}: ")
        number = len(self.reasons)
        if not self._budget:
            raise error
        if number > self._budget:
            listed = "\n".join(f"  {reason}" for _, reason in sorted(self.reasons.items()))
            raise UserError(
                f"{self._root}: {number} episodes cannot be read, unreadable_episodes allows {self._budget}; restore "
                f"them, quarantine them, or raise it:\n{listed}"
            ) from error
        self._progress.message(f"left out, {number} of at most {self._budget}: {error}")


def read_arrays(
    dataset: "LeRobotDataset", robot: "Robot", quarantined: frozenset[int], left_out: LeftOut
) -> dict[int, "EpisodeArrays"]:
    """The numbers of every usable episode, in the dataset's order.

    Raises:
        UserError: none is usable, an episode does not fit the robot, or too many cannot be read.
    """
    episodes = [episode.index for episode in dataset.episodes if episode.index not in quarantined]
    if not episodes:
        raise UserError(
            f"{dataset.root}: all {len(dataset.episodes)} episodes are quarantined, nothing is left to pack; "
            "see quarantine.yaml of the verdict for the reasons."
        )
    arrays: dict[int, EpisodeArrays] = {}
    for episode in episodes:
        try:
            arrays[episode] = dataset.arrays(episode)
        except SampleError as error:
            left_out.add(error)
    check_shapes(dataset, robot, arrays)
    return arrays


def packing_stride(fps: float, rate: float) -> int:
    """Every how many frames one is packed."""
    return max(1, round(fps / rate))


def choose_cameras(dataset: "LeRobotDataset", robot: "Robot") -> dict[str, str | None]:
    """The robot's cameras in the policy's order, each with its key in the dataset or None where the dataset lacks it.

    Raises:
        UserError: the dataset has none of them.
    """
    from model.robots import ROLES

    # the declared ones: a declared camera without video is an error of its episodes, not an absent view
    present = {camera.removeprefix("observation.images."): camera for camera in dataset.info.cameras}
    cameras = {robot.cameras[role]: present.get(robot.cameras[role]) for role in ROLES if role in robot.cameras}
    if not any(cameras.values()):
        raise UserError(
            f"{dataset.root}: its cameras are {', '.join(present) or 'none'}, robot '{robot.id}' needs one of "
            f"{', '.join(cameras) or 'none'}; name the dataset's cameras in the robot's YAML."
        )
    return cameras


def split_episodes(episodes: Sequence[int], fraction: float, seed: int) -> dict[int, str]:
    """`train` or `holdout` for each episode, by the hash of (seed, episode) alone: other episodes do not matter.

    Where the hashes would leave a side empty that should not be, the nearest episode changes sides.
    """
    draws = {
        episode: int.from_bytes(hashlib.sha256(f"{seed}:{episode}".encode()).digest()[:8], "big") / 2**64
        for episode in episodes
    }
    threshold = fraction
    if fraction > 0 and len(draws) > 1:
        ordered = sorted(draws.values())
        threshold = min(max(fraction, np.nextafter(ordered[0], 1)), ordered[-1])
    return {episode: HOLDOUT if draw < threshold else TRAIN for episode, draw in draws.items()}


def check_shapes(dataset: "LeRobotDataset", robot: "Robot", arrays: Mapping[int, "EpisodeArrays"]) -> None:
    """UserError for an episode without frames or task text, or of other dimensions than the robot's."""
    expected = len(robot.state_names), len(robot.action_names)
    for episode, entry in arrays.items():
        found = entry.state.shape[1], entry.action.shape[1]
        if found != expected:
            raise UserError(
                f"{dataset.root}: episode {episode} has {found[0]} state and {found[1]} action dimensions, robot "
                f"'{robot.id}' has {expected[0]} and {expected[1]}; leave the episode out or correct the robot's YAML."
            )
        if not len(entry.state):
            raise UserError(f"{dataset.root}: episode {episode} has no frames; leave it out in quarantine.yaml.")
        if not entry.task:
            raise UserError(f"{dataset.root}: episode {episode} has no task text; write it, or leave the episode out.")
