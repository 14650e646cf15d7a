"""A review for the tests: a dataset of picks as it is annotated, and its service on a free port."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from components.annotate.review.app import create_app
from components.annotate.review.server import HOST, listen
from components.annotate.review.store import ReviewFile
from components.annotate.step import Parameters, run
from model.data.annotations import read_annotations
from model.data.lerobot import LeRobotDataset
from model.progress import Silent
from model.robots import find_robot
from tests.components.annotate.recordings import no_quarantine, write_picks

LONG = 60  # seconds that anything may take on a slow machine


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """A dataset and its annotations."""

    dataset: LeRobotDataset
    rows: list[dict[str, Any]]

    @property
    def lengths(self) -> dict[int, int]:
        return {episode.index: episode.length for episode in self.dataset.episodes}


def annotate(folder: Path, episodes: int) -> Annotated:
    inputs = {"dataset": write_picks(folder / "dataset", episodes), "verdict": no_quarantine(folder / "verdict")}
    (folder / "annotations").mkdir()
    run(inputs, folder / "annotations", Parameters(), Silent())
    return Annotated(dataset=LeRobotDataset.open(inputs["dataset"]), rows=read_annotations(folder / "annotations"))


class Repeated:
    """A dataset of many episodes: those of a small one, over and over."""

    def __init__(self, dataset: LeRobotDataset, count: int) -> None:
        self._dataset = dataset
        self.episodes = tuple(dataclasses.replace(self._real(number), index=number) for number in range(count))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def episode(self, index: int) -> Any:
        return self.episodes[index]

    def arrays(self, episode: int) -> Any:
        return self._dataset.arrays(self._real(episode).index)

    def frames(self, episode: int, camera: str, indices: Any) -> Any:
        return self._dataset.frames(self._real(episode).index, camera, indices)

    def _real(self, number: int) -> Any:
        return self._dataset.episodes[number % len(self._dataset.episodes)]


def repeated(annotated: Annotated, count: int) -> Annotated:
    """So many episodes, annotated as those that they repeat."""
    real = len(annotated.lengths)
    rows = [
        {**row, "episode": episode}
        for episode in range(count)
        for row in annotated.rows
        if row["episode"] == episode % real
    ]
    return Annotated(dataset=Repeated(annotated.dataset, count), rows=rows)  # type: ignore[arg-type]


@contextlib.contextmanager
def served(annotated: Annotated, file: Path, reviewer: str = "kim", sample: list[int] | None = None) -> Iterator[str]:
    """The address of the page; the service ends with the block."""
    app = create_app(
        annotated.dataset,
        find_robot(annotated.dataset.info),
        ReviewFile(file, annotated.rows, annotated.lengths),
        reviewer=reviewer,
        sample=sample,
    )
    listener = listen(0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    try:
        wait_for(lambda: server.started, "the service to answer")
        assert httpx.get(f"{address}/api/review", timeout=LONG).status_code == 200
        yield address
    finally:
        server.should_exit = True
        thread.join(LONG)
        listener.close()


def wait_for(fact: Any, what: str) -> None:
    """Until `fact()` is true, or a failure that says what was waited for."""
    end = time.monotonic() + LONG
    while not fact():
        assert time.monotonic() < end, f"waited {LONG} s for {what}"
        time.sleep(0.02)
