"""Extracts depth tokens: the frozen RGB-D teacher over the usable frames of a dataset (README.md has the format)."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError, unknown_name
from model.progress import Progress

if TYPE_CHECKING:
    from model.depth.teacher import Preprocessing

NAME = "extract_depth_tokens"
INPUTS = ("dataset", "verdict")
CODECS = ("bf16", "int8")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How to extract.

    Attributes:
        teacher: backbone of the seeded stand-in; a checkpoint brings its own.
        teacher_seed: of the stand-in's weights. Its own name: a run with another seed keeps its teacher.
        checkpoint: `model.pt` or safetensors of LingBot-Depth; empty takes the stand-in.
        codec: how tokens are stored, 'int8' or 'bf16'.
        rate: frames a second at most: every round(fps / rate)-th frame, as packing takes them.
        num_tokens: of a view, a square number.
        image_size: pixels of the square view that the teacher sees; 14 times the root of num_tokens avoids a resize.
        enable_depth_mask: leave out the depth tokens of patches without depth (LingBot-VLA's targets keep them).
        precision: 'fp32', or 'bf16' in the order of casts of the released teacher.
        episodes_per_shard: what a kill can lose, times the number of processes.
    """

    teacher: str = "demo"
    teacher_seed: int = 0
    checkpoint: str = ""
    codec: str = "int8"
    rate: float = 10.0
    num_tokens: int = 64
    image_size: int = 112
    enable_depth_mask: bool = False
    precision: str = "fp32"
    episodes_per_shard: int = 12

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise unknown_name("token codec", self.codec, CODECS)
        if not self.rate > 0:
            raise UserError(f"rate is {self.rate}: it must be above 0 frames a second.")
        if self.episodes_per_shard < 1:
            raise UserError(f"episodes_per_shard is {self.episodes_per_shard}: it must be at least 1.")

    def preprocessing(self) -> "Preprocessing":
        """UserError when num_tokens, image_size or precision is impossible."""
        from model.depth.teacher import Preprocessing

        return Preprocessing(
            image_size=self.image_size,
            num_tokens=self.num_tokens,
            enable_depth_mask=self.enable_depth_mask,
            precision=self.precision,
        )


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Write the token store of the dataset into `output`.

    Returns:
        available and, when not, the reason; else frames, views without depth, teacher, megabytes, and the error of the
        stored tokens against bf16.

    Raises:
        UserError: no such teacher or checkpoint, nothing usable, an unreadable frame, depth that is not in metres or
            never valid.
    """
    return extract_tokens(inputs, output, parameters, progress, workers=len(os.sched_getaffinity(0)))


def extract_tokens(
    inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress, *, workers: int
) -> dict[str, Any]:
    """`run` with a number of processes, which changes no byte of the result."""
    from model.data.lerobot import LeRobotDataset
    from model.data.quarantine import read_quarantine
    from model.depth.extraction import ShardJob, TeacherSource, extract, plan_shards
    from model.depth.store import TokenStore
    from model.depth.writer import StoreLayout, finish_store, write_unavailable
    from model.robots import find_robot

    preprocessing = parameters.preprocessing()
    source = TeacherSource(name=parameters.teacher, checkpoint=parameters.checkpoint, seed=parameters.teacher_seed)
    teacher = source.load()
    dataset = LeRobotDataset.open(inputs["dataset"])
    robot = find_robot(dataset.info)
    present = {camera.removeprefix("observation.images."): camera for camera in dataset.depth_cameras}
    views = {name: present.get(name) for name in robot.cameras.values()}
    if not dataset.has_depth or not any(views.values()):
        reason = f"the dataset has no depth for the cameras of robot '{robot.id}'"
        progress.message(f"no depth tokens: {reason}; training goes on without depth alignment")
        write_unavailable(output, reason)
        return {"available": False, "reason": reason}

    facts = teacher.facts()
    progress.message(f"depth teacher '{teacher.name}': {teacher.source}")
    stride, shards = plan_shards(
        dataset, read_quarantine(inputs["verdict"]), parameters.rate, parameters.episodes_per_shard
    )
    if not shards:
        raise UserError(
            f"{dataset.root}: all {len(dataset.episodes)} episodes are quarantined, no frame is left for depth tokens; "
            "see quarantine.yaml of the verdict for the reasons."
        )
    layout = StoreLayout(
        cameras=tuple(views),
        tokens_per_view=preprocessing.num_tokens,
        channels=teacher.channels,
        codec=parameters.codec,
        weights_digest=facts["weights_digest"],
        preprocessing_digest=preprocessing.digest,
    )
    jobs = [
        ShardJob(
            store=output, layout=layout, preprocessing=preprocessing, first=first, last=last, episodes=episodes,
            stride=stride, views=tuple(views.values()),
        )
        for first, last, episodes in shards
    ]  # fmt: skip
    extract(dataset, source, jobs, workers, progress)
    written = finish_store(
        output,
        layout,
        [(job.first, job.last, job.rows) for job in jobs],
        {
            "teacher": facts,
            "preprocessing": asdict(preprocessing),
            "fps": float(dataset.info.fps),
            "rate": dataset.info.fps / stride,
            "stride": stride,
        },
    )
    _check_cameras(dataset.root, {name: key for name, key in views.items() if key}, written["views_with_depth"])
    store = TokenStore.open(output)
    return {
        "available": True,
        "teacher": teacher.name,
        "teacher_source": teacher.source,
        "frames": len(store),
        "rate": written["rate"],
        "cameras": list(store.cameras),
        "tokens_per_view": store.tokens_per_view,
        "channels": store.channels,
        "views_without_depth": written["views_without_depth"],
        "codec": parameters.codec,
        "relative_l2_against_bf16": round(written["error_against_bf16"]["relative_l2"], 6),
        "cosine_against_bf16": round(written["error_against_bf16"]["cosine"], 6),
        "megabytes": round(sum(file.stat().st_size for file in output.rglob("*") if file.is_file()) / 1e6, 1),
    }


def _check_cameras(root: str, views: Mapping[str, str], counts: Mapping[str, int]) -> None:
    """UserError when a camera that declares depth never has a valid pixel."""
    for name, key in views.items():
        if counts[name] == 0:
            raise UserError(
                f"{root}: camera '{key}' declares depth, but no frame has a valid pixel (above 0.01 m): record it in "
                "metres or millimetres as meta/depth.json says, or take the camera out of meta/depth.json."
            )
