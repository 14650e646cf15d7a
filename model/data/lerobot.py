"""Reader of LeRobot datasets v2.0, v2.1 and v3.0, over pyarrow and PyAV.

Frame i of an episode is row i of its table and the i-th frame of its video. Declared timestamps are read, never used to
pick a frame: datasets exist whose timestamps start at 0.05 s while their video starts at 0. Whatever cannot be read
raises a UserError (a SampleError where it is of one episode) that names dataset, episode, frame and column or camera;
nothing is skipped or replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.arrow import to_numpy
from model.data.bad_samples import SampleError
from model.data.chunks import action_chunks
from model.data.files import DatasetFiles, FileSystem
from model.data.lerobot_episodes import read_episodes
from model.data.lerobot_layout import (
    IMAGE_PREFIX,
    Clip,
    DatasetInfo,
    Episode,
    Remark,
    is_instruction,
    read_info,
    read_tasks,
)
from model.data.lerobot_metadata import read_parquet
from model.data.video import Video, VideoError, decode_image
from model.errors import UserError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa

STATE, ACTION, EEF_POSE = "observation.state", "action", "observation.eef_pose"
MILLIMETRE = np.float32(0.001)
EPISODES_KEPT = 8  # whose numbers `sample` keeps, of those asked for last; 112 bytes a frame at 14 dimensions
VIDEO_FACTS_KEPT = 64  # of the files read last; a file's facts are about 24 bytes a frame


@dataclass(frozen=True, kw_only=True)
class EpisodeArrays:
    """The numbers of one episode of L frames.

    Attributes:
        state: float32 [L, S], in the robot's units and order.
        action: float32 [L, A].
        timestamp: float64 [L], seconds as declared.
        task: the instruction, a sentence.
        eef_pose: float32 [L, 14] (left xyz + quaternion wxyz, right), or None when not recorded.
    """

    state: np.ndarray
    action: np.ndarray
    timestamp: np.ndarray
    task: str
    eef_pose: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One frame of an episode and the chunk of actions that begins there.

    Attributes:
        images: camera key -> uint8 [H, W, 3].
        state: float32 [S].
        actions: float32 [T, A]; the last one is repeated past the end of the episode.
        padding: bool [T], True past the end.
        timestamp: seconds as declared.
        task: the instruction.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    padding: np.ndarray
    timestamp: float
    task: str


class LeRobotDataset:
    """A dataset opened for reading; make one with `open`."""

    def __init__(
        self, files: DatasetFiles, info: DatasetInfo, tasks: Mapping[int, str], episodes: tuple[Episode, ...]
    ) -> None:
        self.root = files.root
        self.info = info
        self.tasks = dict(tasks)
        self.episodes = episodes
        self.remarks: tuple[Remark, ...] = ()
        self._files = files
        self._by_index = {episode.index: episode for episode in episodes}
        self._table: tuple[str, Any, dict[int, tuple[int, int]]] | None = None
        self._numbers = lru_cache(maxsize=EPISODES_KEPT)(self.arrays)
        self._video = lru_cache(maxsize=VIDEO_FACTS_KEPT)(self._open_video)

    @classmethod
    def open(cls, root: str | Path, filesystem: FileSystem | None = None) -> "LeRobotDataset":
        """Reads the metadata and lists the files; opens no table or video.

        Args:
            root: the dataset's folder, or its path within `filesystem`.
            filesystem: any fsspec file system; None reads the local disk.

        Raises:
            UserError: it is not a LeRobot dataset of a known version, or its metadata is broken.
        """
        files = DatasetFiles(root, filesystem)
        info = read_info(files)
        episodes, remarks = read_episodes(files, info)
        dataset = cls(files, info, read_tasks(files, info), episodes)
        dataset.remarks = remarks
        return dataset

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the declared cameras that have files in at least one episode."""
        images = {key for key, feature in self.info.features.items() if feature.dtype == "image"}
        found = {camera for episode in self.episodes for camera, clip in episode.videos.items() if clip is not None}
        return tuple(camera for camera in self.info.cameras if camera in found or camera in images)

    @property
    def depth_cameras(self) -> tuple[str, ...]:
        """Keys of the cameras that `meta/depth.json` declares."""
        return tuple(dict.fromkeys(camera for episode in self.episodes for camera in episode.depth))

    @property
    def has_depth(self) -> bool:
        return any(clip is not None for episode in self.episodes for clip in episode.depth.values())

    def episode(self, index: int) -> Episode:
        if index not in self._by_index:
            raise UserError(f"{self.root}: episode {index} is asked for, {len(self.episodes)} are declared.")
        return self._by_index[index]

    def table(self, episode: int) -> "pa.Table":
        """The raw columns of one episode, in the order of its frames."""
        place = self.episode(episode).table
        if place is None:
            raise self._bad(episode, None, "table", ": its table is missing. Restore it, or leave the episode out.")
        if self.info.version != "v3.0":
            return read_parquet(self._files, place)
        # v3.0 files hold many episodes, and are read in order: keep the last one.
        held = self._table  # once: another thread may put another file there
        if held is None or held[0] != place:
            table = read_parquet(self._files, place)
            self._table = held = (place, table, self._rows(place, table))
        _, table, rows = held
        if episode not in rows:
            sentence = f": {place} has no row of it. Restore it, or leave the episode out."
            raise self._bad(episode, None, "table", sentence)
        first, last = rows[episode]
        return table.slice(first, last - first)

    def arrays(self, episode: int) -> EpisodeArrays:
        """State, action, time and instruction of one episode; every number is finite.

        Raises:
            UserError: a column is missing, of the wrong width, null, NaN or infinite: episode, frame and column named.
        """
        table = self.table(episode)
        return EpisodeArrays(
            state=self._finite(episode, table, STATE, np.float32),
            action=self._finite(episode, table, ACTION, np.float32),
            timestamp=self._finite(episode, table, "timestamp", np.float64)[:, 0],
            task=self.instruction(episode, table),
            eef_pose=self._finite(episode, table, EEF_POSE, np.float32) if EEF_POSE in table.column_names else None,
        )

    def sample(self, episode: int, frame: int, horizon: int, cameras: Sequence[str] | None = None) -> Sample:
        """Frame `frame` of an episode, with the images of `cameras` (all that have files when None).

        Raises:
            UserError: the frame lies outside the episode, or something of it cannot be read.
        """
        numbers = self._numbers(episode)
        try:
            chunks, padding = action_chunks(numbers.action, np.array([frame]), horizon)
        except UserError as error:
            raise UserError(f"{self.root}: episode {episode}: {error}") from error
        keys = [self.camera(name) for name in (self.cameras if cameras is None else cameras)]
        return Sample(
            images={key: next(self.frames(episode, key, [frame])) for key in keys},
            state=numbers.state[frame],
            actions=chunks[0],
            padding=padding[0],
            timestamp=float(numbers.timestamp[frame]),
            task=numbers.task,
        )

    def column(self, episode: int, table: "pa.Table", key: str) -> np.ndarray:
        """One column as float64 [L, D]; nulls become NaN.

        Raises:
            UserError: the column is missing, or a frame has another width than declared.
        """
        if key not in table.column_names:
            sentence = f": column '{key}' is missing; it has {', '.join(table.column_names)}."
            raise self._bad(episode, None, key, sentence)
        column = table[key].combine_chunks()
        feature = self.info.features.get(key)
        width = feature.shape[0] if feature is not None and feature.shape else 1
        import pyarrow as pa
        import pyarrow.compute as pc

        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            return to_numpy(pc.cast(column, pa.float64()))[:, None]
        widths = to_numpy(pc.list_value_length(column))  # NaN of a null list, which no width is equal to
        if (wrong := np.flatnonzero(widths != width)).size:
            frame = int(wrong[0])
            width_found = int(np.nan_to_num(widths[frame]))
            sentence = f" frame {frame}: column '{key}' has {width_found} values, meta/info.json declares {width}."
            raise self._bad(episode, frame, key, sentence)
        values = to_numpy(pc.cast(pc.list_flatten(column), pa.float64()))
        return values.reshape(len(column), width)

    def instruction(self, episode: int, table: "pa.Table") -> str:
        """The task sentence of an episode: by `task_index`, else by a description column, else as declared."""
        described = sorted(
            name for name in table.column_names if name.startswith("annotation.") and "task_description" in name
        )
        for key in ("task_index", *described):
            if key not in table.column_names or not table.num_rows:
                continue
            number = table[key][0].as_py()
            if number not in self.tasks:
                sentence = f" frame 0: column '{key}' is {number}, meta/tasks has no such task."
                raise self._bad(episode, 0, key, sentence)
            if is_instruction(self.tasks[number]):
                return self.tasks[number].strip()
        return self.episode(episode).instruction.strip()

    def frames(self, episode: int, camera: str, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Images uint8 [H, W, 3] of `indices` (all when None), in the order asked for.

        Args:
            camera: the key ('observation.images.cam_high') or what follows 'observation.images.'.
        """
        key = self.camera(camera)
        if self.info.features[key].dtype == "image":
            yield from self._stored_images(episode, key, indices)
            return
        yield from self._read(episode, key, self.episode(episode).videos.get(key), indices, "rgb24")

    def depth(self, episode: int, camera: str, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Depth float32 [H, W] in metres of `indices` (all when None); 0 where there was no return."""
        key = self.camera(camera)
        clip = self.episode(episode).depth.get(key)
        for image in self._read(episode, key, clip, indices, "gray16le"):
            yield image.astype(np.float32) * MILLIMETRE

    def camera(self, name: str) -> str:
        """The key of a declared camera, given its key or its short name."""
        for key in (name, IMAGE_PREFIX + name):
            if key in self.info.cameras:
                return key
        short = [key.removeprefix(IMAGE_PREFIX) for key in self.info.cameras]
        raise unknown_name(f"camera of {self.root}", name.removeprefix(IMAGE_PREFIX), short)

    def clip(self, clip: Clip) -> tuple[Video, int, int]:
        """The video of a clip, its first position there and one past its last."""
        video = self._video(clip.file)
        return video, *video.span(clip.start, clip.end, self.info.fps)

    def _read(
        self, episode: int, key: str, clip: Clip | None, indices: Sequence[int] | None, pixel_format: str
    ) -> Iterator[np.ndarray]:
        what = f", camera '{key}'"
        if clip is None:
            kind = "depth video" if pixel_format == "gray16le" else "video"
            sentence = f"{what}: its {kind} is missing. Restore it, or leave the episode out."
            raise self._bad(episode, None, key, sentence)
        first = 0
        try:
            video, first, last = self.clip(clip)
            wanted = range(last - first) if indices is None else indices
            if outside := [index for index in wanted if not 0 <= index < last - first]:
                raise VideoError(f"is asked for, the episode has {last - first} frames there", first + outside[0])
            yield from video.read([first + index for index in wanted], pixel_format)
        except VideoError as error:
            own = error.counted_from(first)
            sentence = f"{what} ({clip.file}): {own}. Restore it, or leave the episode out."
            raise self._bad(episode, own.position, key, sentence) from error

    def _stored_images(self, episode: int, key: str, indices: Sequence[int] | None) -> Iterator[np.ndarray]:
        table = self.table(episode)
        if key not in table.column_names:
            raise self._bad(episode, None, key, f": column '{key}' is missing, its images are stored there.")
        column = table[key]
        for index in range(len(column)) if indices is None else indices:
            cell = column[index].as_py()
            try:
                yield decode_image(cell["bytes"] if isinstance(cell, dict) else cell)
            except (VideoError, TypeError) as error:
                sentence = f" frame {index}: column '{key}' holds no image ({error})."
                raise self._bad(episode, index, key, sentence) from error

    def _finite(self, episode: int, table: "pa.Table", key: str, dtype: Any) -> np.ndarray:
        values = self.column(episode, table, key)
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            frame, dimension = map(int, bad[0])
            sentence = (
                f" frame {frame}: column '{key}' dimension {dimension} is {values[frame, dimension]}. "
                "Leave the episode out: `lingbot data validate` writes the list."
            )
            raise self._bad(episode, frame, key, sentence)
        return values.astype(dtype)

    def _rows(self, place: str, table: "pa.Table") -> dict[int, tuple[int, int]]:
        """Episode -> its first row in a shared table, and one past its last."""
        where = self._files.path(place)
        if "episode_index" not in table.column_names:
            raise UserError(f"{where}: column 'episode_index' is missing; v3.0 needs it.")
        owners = to_numpy(table["episode_index"])
        starts = np.flatnonzero(np.diff(owners, prepend=owners[:1] - 1)) if len(owners) else np.array([], dtype=int)
        rows: dict[int, tuple[int, int]] = {}
        for start, stop in zip(starts, [*starts[1:], len(owners)], strict=True):
            episode = int(owners[start])
            if episode in rows:
                raise UserError(f"{where} row {start}: episode {episode} goes on after another one. Sort the table.")
            rows[episode] = (int(start), int(stop))
        return rows

    def _open_video(self, file: str) -> Video:
        return Video(lambda: self._files.source(file))

    def _bad(self, episode: int, frame: int | None, column: str, sentence: str) -> SampleError:
        """The error of what cannot be read; `sentence` goes on after the dataset and the episode."""
        return SampleError(f"{self.root}: episode {episode}{sentence}", episode, frame, column)
