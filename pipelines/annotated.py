"""What the commands about annotations work on: a dataset and its annotations, as named, or those of a run here."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """A dataset, what to call it, and where its annotations are."""

    name: str
    dataset: "LeRobotDataset"
    annotations: Path

    @property
    def lengths(self) -> dict[int, int]:
        """Frames of each episode of the dataset."""
        return {episode.index: episode.length for episode in self.dataset.episodes}

    def rows(self) -> list[dict[str, Any]]:
        """The annotations.

        Raises:
            UserError: they cannot be read, or are of another dataset.
        """
        return rows_of(self.annotations, self.dataset)


def rows_of(annotations: Path, dataset: "LeRobotDataset") -> list[dict[str, Any]]:
    """The annotations in a folder or a .parquet, all of them within the dataset's episodes.

    Raises:
        UserError: they cannot be read, or are of another dataset.
    """
    from components.annotate.episodes import check_within
    from model.data.annotations import read_annotations

    rows = read_annotations(annotations)
    check_within(rows, {episode.index: episode.length for episode in dataset.episodes}, str(annotations))
    return rows


def add_run(parser: argparse.ArgumentParser) -> None:
    """`--run`, which names whose data a command works on where its arguments name none."""
    parser.add_argument("--run", metavar="RUN", help="whose data, where none is named (default: the last run)")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """DATASET, which may be left out, before the command's other arguments."""
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="the LeRobot dataset; left out: that of the run of --run"
    )
    add_run(parser)


def add_annotated(parser: argparse.ArgumentParser, annotations: str) -> None:
    """DATASET and ANNOTATIONS, both or the first of which may be left out."""
    add_dataset(parser)
    parser.add_argument(
        "annotations", nargs="?", metavar="ANNOTATIONS", type=Path, help=f"{annotations}; left out: those of the run"
    )


def open_annotated(args: argparse.Namespace) -> Annotated:
    """What the arguments of `add_annotated` name. A single .parquet is annotations of the run's dataset.

    Raises:
        UserError: a dataset without annotations, one beside --run, or a run that has no annotated data here.
    """
    from components.adapters.filesystem import open_dataset

    dataset, annotations = args.dataset, args.annotations
    if annotations is None and dataset is not None and dataset.endswith(".parquet"):
        dataset, annotations = None, Path(args.dataset)
    if dataset is None:
        run, opened = _of_run(args.run)
        return Annotated(name=f"run {run.id}", dataset=opened, annotations=annotations or run.folder("annotate"))
    _check_alone(dataset, args.run)
    if annotations is None:
        raise UserError(
            f"DATASET is '{dataset}' and ANNOTATIONS is missing: give both, or neither for those of a run (--run)."
        )
    return Annotated(
        name=dataset.rstrip("/").rpartition("/")[2], dataset=open_dataset(dataset), annotations=annotations
    )


def open_named(dataset: str | None, run: str | None) -> "LeRobotDataset":
    """The dataset of the argument of `add_dataset`.

    Raises:
        UserError: as `open_annotated`.
    """
    from components.adapters.filesystem import open_dataset

    if dataset is None:
        return _of_run(run)[1]
    _check_alone(dataset, run)
    return open_dataset(dataset)


def annotations_of_run(run: str | None) -> Path:
    """The folder of the annotations of a run; None is the last one.

    Raises:
        UserError: it has none here.
    """
    return _Run.read(run).folder("annotate")


def _of_run(name: str | None) -> tuple["_Run", "LeRobotDataset"]:
    from components.adapters.filesystem import open_dataset

    run = _Run.read(name)
    return run, open_dataset(str(run.folder(run.source)))


def _check_alone(dataset: str, run: str | None) -> None:
    if run is not None:
        raise UserError(f"DATASET is '{dataset}' and --run is '{run}': give one of them.")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run on this machine: its id, its first step, and the folder of what each finished step made."""

    id: str
    source: str
    folders: Mapping[str, Path]

    @classmethod
    def read(cls, name: str | None) -> "_Run":
        from components.records import data_folder
        from pipelines.history import read_run

        record = read_run(name or "last")
        finished = [step for step in record["steps"] if step.get("digest")]
        folders = {step["name"]: data_folder(step["name"], step["fingerprint"]) for step in finished}
        return cls(id=record["id"], source=record["source"], folders=folders)

    def folder(self, step: str) -> Path:
        folder = self.folders.get(step)
        if folder is None or not folder.is_dir():
            raise UserError(
                f"run {self.id} has no finished step '{step}' here: let it finish with `lingbot run`, name another run "
                "with --run, or give DATASET and ANNOTATIONS."
            )
        return folder
