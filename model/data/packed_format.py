"""The packed folder: its files, its description, and its images (DESIGN section 2, "packed shards").

meta.json           PackedMeta; its `codec` says how the frames are stored (frame_codecs)
steps.arrow         one row a frame of every usable episode, in order: episode, frame, task, sub_task, task_text,
                    split, state, action, goal, goal_mask
frames.arrow        one row a packed frame (every `stride`-th step): step (row of steps.arrow), episode, frame, and
                    for each view file, offset, size, crc (CRC-32 of the bytes); an absent view has size 0
frames-NNNNN.bin    the frames, one after another
statistics.json     statistics of the training split: state, action

Schema 1 had JPEG frames alone, and no crc: it is read, its frames are not checked. Schema 2 had no task_text: every
episode has its own task alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from model.data.arrow import texts, to_numpy
from model.errors import UserError

SCHEMA_VERSION = 3
META, STEPS, FRAMES, STATISTICS = "meta.json", "steps.arrow", "frames.arrow", "statistics.json"
TRAIN, HOLDOUT = "train", "holdout"


@dataclass(frozen=True)
class Vector:
    """The shape of a column, as a dataset's description has it."""

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PackedMeta:
    """What a packed folder holds.

    `cameras` are the robot's, by role (high, left wrist, right wrist); V is their number. `fps` is of the steps and
    action chunks, `rate` = fps / stride of the packed frames (Hz). `sub_tasks` are the annotated sentences, of which a
    step's `sub_task` is the number (-1: none); `task_texts` those of whole episodes that differ from the dataset's
    task, of which a step's `task_text` is the number (-1: none). `left_out` are the episodes that could not be read,
    with the reason. `counts`: episodes, train_episodes, holdout_episodes, quarantined, left_out, steps, frames.
    """

    schema_version: int
    robot: str
    robot_type: str
    cameras: tuple[str, ...]
    image_size: int
    codec: str
    jpeg_quality: int
    video_crf: int
    fps: float
    rate: float
    stride: int
    seed: int
    tasks: tuple[str, ...]
    sub_tasks: tuple[str, ...]
    task_texts: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    has_goal: bool
    files: tuple[str, ...]
    left_out: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, int]

    @property
    def features(self) -> Mapping[str, "Vector"]:
        """State and action. With it, `model.robots.find_robot` takes this for a dataset's description."""
        return {
            "observation.state": Vector((len(self.state_names),)),
            "action": Vector((len(self.action_names),)),
        }

    def save(self, folder: Path) -> None:
        """Write meta.json."""
        write_json(folder / META, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "PackedMeta":
        """Read meta.json. UserError when the folder is not a packed one, or newer than this code."""
        path = folder / META
        if not path.is_file():
            raise UserError(f"{folder} is not a packed dataset: it has no {META}; make one with `lingbot step pack`.")
        data = read_json(path)
        version = data.get("schema_version")
        if version not in range(1, SCHEMA_VERSION + 1):
            raise UserError(
                f"{path}: schema_version is {version}, this code reads 1 to {SCHEMA_VERSION}; pack the dataset again."
            )
        if version == 1:
            data |= {"codec": "jpeg", "video_crf": 18, "left_out": []}
        if version <= 2:
            data |= {"task_texts": []}
        names = [entry.name for entry in fields(cls)]
        missing = [name for name in names if name not in data]
        if missing:
            raise UserError(f"{path}: {', '.join(missing)} missing; pack the dataset again.")
        values: dict[str, Any] = {
            name: tuple(data[name]) if isinstance(data[name], list) else data[name] for name in names
        }
        return cls(**values)


def shard_name(number: int) -> str:
    """Name of the image file of that number."""
    return f"frames-{number:05d}.bin"


def write_json(path: Path, data: Any) -> None:
    """JSON with fixed bytes for equal data."""
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """A JSON file of the folder. UserError when it is missing."""
    if not path.is_file():
        raise UserError(f"{path} is missing; pack the dataset again.")
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrow(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Columns [N] or [N, size] as one uncompressed record batch, so that a reader can map it; [N, size] as lists."""
    import pyarrow as pa

    arrays = [
        pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
        for values in columns.values()
    ]
    batch = pa.record_batch(arrays, names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_arrow(path: Path) -> dict[str, np.ndarray]:
    """Inverse of `write_arrow`, memory-mapped and read-only. UserError when missing or damaged."""
    import pyarrow as pa

    if not path.is_file():
        raise UserError(f"{path} is missing; pack the dataset again.")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is damaged ({error}); pack the dataset again.") from error
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            columns[name] = to_numpy(column.flatten()).reshape(-1, column.type.list_size)
        else:
            columns[name] = texts(column) if pa.types.is_string(column.type) else to_numpy(column)
    return columns
