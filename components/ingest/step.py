"""Takes an existing LeRobot dataset in, byte for byte, from a folder or a bucket."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.adapters.storage import FolderStorage, Storage, file_sha256
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_layout import INFO
from model.errors import UserError
from model.progress import Progress

NAME = "ingest"
INPUTS: tuple[str, ...] = ()

FOLDERS = ("meta", "data", "videos", "depth")
ROOT_FILES = ("LICENSE", "NOTICE", "README")  # with any ending: what a licence asks to keep with the data
SCRATCH = ".scratch"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What to take in.

    Attributes:
        dataset: a folder, or `s3://bucket/prefix`, that holds `meta/info.json`.
        link: hard-link a local dataset's files instead of copying them. Takes no space, but then nobody may edit the
            original in place.
    """

    dataset: str = ""
    link: bool = False


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes the dataset into `output` and returns what it is. A second run goes on where a killed one stopped.

    Raises:
        UserError: `dataset` is empty, absent, not a LeRobot dataset of a known version, or does not fit on the disk.
    """
    if not parameters.dataset:
        raise UserError(
            "ingest.dataset is empty: give a LeRobot dataset with --dataset PATH or --dataset s3://bucket/prefix."
        )
    remote = "://" in parameters.dataset and not parameters.dataset.startswith("file://")
    names = (_fetch if remote else _copy)(parameters, output, progress)
    for path in output.rglob("*"):
        if path.is_file() and path.relative_to(output).as_posix() not in names:
            path.unlink()  # what a killed run, or a run on other input, left
    shutil.rmtree(output / SCRATCH, ignore_errors=True)
    dataset = LeRobotDataset.open(output)
    return {
        "version": dataset.info.version,
        "robot_type": dataset.info.robot_type,
        "episodes": len(dataset.episodes),
        "frames": sum(episode.length for episode in dataset.episodes),
        "fps": dataset.info.fps,
        "cameras": list(dataset.cameras),
        "depth": dataset.has_depth,
        "files": len(names),
        "bytes": sum((output / name).stat().st_size for name in names),
    }


def _copy(parameters: Parameters, output: Path, progress: Progress) -> set[str]:
    storage = Storage.from_url(parameters.dataset)
    assert isinstance(storage, FolderStorage)
    if not storage.root.is_dir():
        kind = "it is a file" if storage.root.exists() else "there is no such folder"
        raise UserError(f"dataset '{parameters.dataset}': {kind}. Give the folder of a LeRobot dataset.")
    LeRobotDataset.open(storage.root)  # refuse what is no dataset before anything is copied
    names = sorted(
        path.relative_to(storage.root).as_posix()
        for path in storage.root.rglob("*")
        if path.is_file() and wanted(path.relative_to(storage.root).as_posix())
    )
    total = sum((storage.root / name).stat().st_size for name in names)
    progress.message(f"copying {len(names)} files ({total / 1e6:.0f} MB) from {parameters.dataset}")
    done = 0
    for name in names:
        source, target = storage.root / name, output / name
        if not (parameters.link and _hard_link(source, target)):
            storage.get_file(name, target, sha256=file_sha256(source))
        done += source.stat().st_size
        progress.update(done, total)
    return set(names)


def _hard_link(source: Path, target: Path) -> bool:
    """Whether `target` is now the same file as `source`; False where the two are on different disks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return True
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without hard links: the caller copies
        return False
    return True


def _fetch(parameters: Parameters, output: Path, progress: Progress) -> set[str]:
    storage = Storage.from_url(parameters.dataset)
    if not storage.exists(INFO):
        raise UserError(
            f"dataset '{parameters.dataset}' is not a LeRobot dataset: there is no {storage.locate(INFO)}. "
            "Give the address under which meta/, data/ and videos/ lie."
        )
    listed = [file for file in storage.list() if wanted(file.key)]
    total = sum(file.size for file in listed)
    progress.message(f"fetching {len(listed)} files ({total / 1e6:.0f} MB) from {parameters.dataset}")
    done = 0
    for folder in FOLDERS:
        inside = [file for file in listed if file.key.startswith(f"{folder}/")]
        if inside:
            storage.get_folder(folder, output / SCRATCH / folder, progress=_Part(progress, done, total))
            done += sum(file.size for file in inside)
    for file in listed:
        target = output / file.key
        target.parent.mkdir(parents=True, exist_ok=True)
        if "/" in file.key:
            os.replace(output / SCRATCH / file.key, target)
        else:
            storage.get_file(file.key, target, sha256=file.sha256)
    return {file.key for file in listed}


def wanted(name: str) -> bool:
    """Whether a file of the source belongs to the dataset: its four folders, licence, description; nothing hidden."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return False
    if len(parts) == 1:
        return name.split(".")[0].upper() in ROOT_FILES
    return parts[0] in FOLDERS


class _Part:
    """Shows the transfer of one folder as its share of the whole."""

    def __init__(self, progress: Progress, before: int, whole: int) -> None:
        self._update: Callable[..., None] = progress.update
        self.message = progress.message
        self._before, self._whole = before, whole

    def update(self, done: int, total: int, **figures: float) -> None:
        self._update(self._before + done, self._whole, **figures)
