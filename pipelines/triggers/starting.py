"""Starts a run for a dataset that has arrived, unless there is one: by whichever trigger, of whichever process."""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from components import state
from model.errors import UserError
from pipelines.cluster.api import Kubeflow
from pipelines.cluster.once import experiment_id
from pipelines.cluster.run import ClusterRun
from pipelines.cluster.staging import stage_release
from pipelines.cluster.submission import keep_first, run_key, run_name, runs_of
from pipelines.parameters import load_parameters
from pipelines.profile import Profile
from pipelines.triggers.arrivals import Arrival, Debounce, Unfinished, arrivals, lack_of
from pipelines.versions.tags import data_of_release, find_release

# Nothing of a dataset that is not whole has changed, but what kept it from being read may be over. What cannot be
# started comes to this by doubled pauses: each attempt leaves a record.
_AGAIN_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run of a dataset: Kubeflow's id of it, and the run itself when it was started just now."""

    run_id: str
    run: ClusterRun | None = None


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What is run for each dataset.

    Attributes:
        pipeline: its name.
        profile: of a cluster.
        kfp: where.
        settings: `KEY=VALUE`; other settings are other runs.
        params: a file instead of the checkout's params.yaml; another file is another run, too.
        stream: for what a person reads.
    """

    pipeline: str
    profile: Profile
    kfp: Kubeflow
    settings: Sequence[str] = ()
    params: Path | None = None
    stream: TextIO = sys.stdout

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def name(self, digest: str) -> str:
        """What a run must not be started twice for. Not the code: a new version of it is no new data."""
        given = list(self.settings)
        if self.params is not None:
            given.append(f"params {hashlib.sha256(self.params.read_bytes()).hexdigest()}")
        if not given:
            return f"dataset {digest}"
        return f"dataset {digest} {hashlib.sha256(state.canonical_json(given)).hexdigest()}"

    def run_of(self, digest: str) -> str | None:
        """Kubeflow's id of the run of a dataset; None when there is none yet."""
        key = run_key(self.pipeline, {"name": self.name(digest)})
        found = runs_of(self.kfp, key, run_name(self.pipeline, key), experiment_id(self.kfp))
        return str(keep_first(self.kfp, found)["run_id"]) if found else None

    def start(self, arrival: Arrival, data: Mapping[str, Any] | None = None) -> Started:
        """The run of a dataset: the one that it has, or a new one.

        Args:
            arrival: the dataset.
            data: the tag that it comes from.

        Raises:
            Unfinished: the dataset lacks something.
            UserError: the run cannot be submitted; what was done until then is found by the next call.
        """
        there = self.run_of(arrival.digest)
        if there is not None:
            self.say(f"{arrival.address} ({arrival.digest[:12]}) has its run: {self.kfp.link(there)}")
            return Started(run_id=there)
        lack = lack_of(arrival)
        if lack:
            raise Unfinished(lack)
        self.say(f"{arrival.address} ({arrival.digest[:12]}, {arrival.files} files) is new")
        parameters = load_parameters(self.params, [*self.settings, f"ingest.dataset={arrival.address}"])
        run = ClusterRun(
            self.pipeline, parameters, self.profile, data,
            name=self.name(arrival.digest), kfp=self.kfp, stream=self.stream,
        )  # fmt: skip
        return Started(run_id=run.submit(), run=run)

    def start_tag(self, tag: str) -> Started:
        """The run of a released dataset, which is put into the profile's storage for the pods to read.

        Raises:
            UserError: no such release, its data cannot be fetched, or the profile names no storage.
        """
        release = find_release(tag)
        (arrival,) = arrivals(stage_release(tag, self.profile))
        return self.start(arrival, data_of_release(release))


def start_when_settled(
    trigger: Trigger,
    addresses: Sequence[str],
    *,
    settle: float,
    give_up: float,
    every: float,
    pause: Callable[[float], None] = time.sleep,
) -> list[Started]:
    """Waits until each dataset is whole and at rest, and starts its run, unless it has one; returns the runs.

    Raises:
        UserError: one is not after `give_up` seconds, with what it lacks.
    """
    debounce, end = Debounce(settle), time.monotonic() + give_up
    waiting, started = list(dict.fromkeys(addresses)), list[Started]()
    while True:
        for address in list(waiting):
            found = [arrival for arrival in arrivals(address) if arrival.address == address.rstrip("/")]
            lack = f"{address} holds no meta/info.json." if not found else f"{address} goes on changing."
            for arrival in debounce.settled(found):
                try:
                    started.append(trigger.start(arrival))
                except Unfinished as error:
                    lack = str(error)
                else:
                    waiting.remove(address)
        if not waiting:
            return started
        if time.monotonic() >= end:
            raise UserError(f"no run after {give_up:g} s: {lack} Upload what is missing, then notify again.")
        pause(min(every, settle) if settle else every)


def watch(
    trigger: Trigger,
    address: str,
    *,
    settle: float,
    every: float,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    rounds: int | None = None,
) -> None:
    """Starts a run for each dataset below an address, those that are there and those that come, for ever.

    What fails (a bucket or an API that is away) is said, and tried again; a bucket that cannot be listed in the first
    round ends the watch. No dataset waits for another that fails.

    Args:
        trigger: what is run.
        address: s3://bucket/prefix.
        settle: seconds that a dataset must be at rest.
        every: seconds between two looks.
        pause: waits.
        clock: seconds.
        rounds: ends after so many looks; None: never.
    """
    debounce = Debounce(settle, clock)
    started: set[Arrival] = set()
    later: dict[Arrival, tuple[float, float, str]] = {}  # when it is tried again, after which pause, and why
    looked = 0
    while rounds is None or looked < rounds:
        try:
            found = arrivals(address)
        except UserError as error:
            if not looked:
                raise
            found = []
            trigger.say(f"tried again in {every:g} s: {error}")
        if not looked:
            trigger.say(f"watching {address}: {len(found)} dataset{'s' * (len(found) != 1)}")
        for arrival in debounce.settled(found):
            due, paused, why = later.get(arrival, (-math.inf, 0.0, ""))
            if arrival in started or clock() < due:
                continue
            try:
                trigger.start(arrival)
            except Unfinished as error:
                later[arrival] = clock() + _AGAIN_SECONDS, _AGAIN_SECONDS, str(error)
                if str(error) != why:
                    trigger.say(f"waiting for the rest: {error}")
            except UserError as error:
                wait = min(max(every, 2 * paused), _AGAIN_SECONDS)
                later[arrival] = clock() + wait, wait, str(error)
                trigger.say(f"tried again in {wait:g} s: {error}")
            else:
                started.add(arrival)
        looked += 1
        pause(every)
