"""Trials over several processes, resumable trial by trial; the result does not depend on how many there are."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Protocol

import numpy as np

from model.errors import UserError
from model.evaluation.closed_loop import Bench, Job
from model.evaluation.records import ERROR, TrialRecord, from_line
from model.progress import Progress

JOBS_A_WORKER = 4
"""Fewer trials than this do not pay for the start of another process (two seconds of imports)."""

Film = tuple[TrialRecord, list[dict[str, np.ndarray]]]


class Crew(Protocol):
    """Runs jobs; yields each record when it is there, in any order."""

    def trials(self, jobs: Sequence[Job]) -> Iterator[TrialRecord]: ...

    def film(self, job: Job) -> Film: ...


class LocalCrew:
    """Runs jobs one after another in this process, on the bench it is given."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def trials(self, jobs: Sequence[Job]) -> Iterator[TrialRecord]:
        for job in jobs:
            yield self._bench.run(job)

    def film(self, job: Job) -> Film:
        return self._bench.film(job)


class ProcessCrew:
    """Runs jobs in worker processes, each with one thread of arithmetic and a bench of its own."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def trials(self, jobs: Sequence[Job]) -> Iterator[TrialRecord]:
        for future in as_completed([self._executor.submit(_run, job) for job in jobs]):
            yield future.result()

    def film(self, job: Job) -> Film:
        return self._executor.submit(_film, job).result()


@contextmanager
def process_crew(
    open_bench: Callable[[], Bench], *, workers: int | None = None, jobs: int | None = None
) -> Iterator[ProcessCrew]:
    """A crew of `workers` processes; by default one a core that this process may use, but none for fewer than
    `JOBS_A_WORKER` of the `jobs`. `open_bench` must be picklable.

    Raises:
        UserError: fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}: it must be 1 or more; without it, there is one a core")
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers is None and jobs is not None:
        count = max(1, min(count, -(-jobs // JOBS_A_WORKER)))
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_set_up, initargs=(open_bench,))
    try:
        yield ProcessCrew(executor)
    finally:
        # Trials that have not started are dropped: when all went well there is none, after an error nobody waits.
        executor.shutdown(wait=True, cancel_futures=True)


def run_jobs(jobs: Sequence[Job], crew: Crew, *, scratch: Path, progress: Progress) -> list[TrialRecord]:
    """Run the jobs that `scratch` does not hold yet, appending each trial when it ends; records in the jobs' order.

    Trials that ended in an error (a server that was away) are run again. `scratch` is a JSON-lines file that survives a
    killed run. It must belong to one rig and bundle (`Rig.digest`).
    """
    done = {record.key: record for record in _resume(scratch) if record.outcome != ERROR}
    waiting = [job for job in jobs if job.key not in done]
    finished = len(jobs) - len(waiting)
    if finished and waiting:
        progress.message(f"{finished} of {len(jobs)} trials were finished before: running the other {len(waiting)}")
    of_condition: dict[str, list[bool]] = {}
    with scratch.open("a", encoding="utf-8") as file:
        for record in crew.trials(waiting):
            done[record.key] = record
            file.write(record.to_line() + "\n")
            file.flush()
            finished += 1
            outcomes = of_condition.setdefault(record.condition, [])
            outcomes.append(record.success)
            if len(outcomes) == 1:
                progress.message(f"closed loop: {record.condition}")
            progress.update(finished, len(jobs), success_rate=sum(outcomes) / len(outcomes))
    return [done[job.key] for job in jobs]


def _resume(scratch: Path) -> list[TrialRecord]:
    """Records of a killed run. Its last line may be half written: that trial is run again."""
    if not scratch.exists():
        return []
    whole, newline, _ = scratch.read_text(encoding="utf-8").rpartition("\n")
    scratch.write_text(whole + newline, encoding="utf-8")
    return [from_line(line, f"{scratch}:{number}") for number, line in enumerate(whole.splitlines(), 1)]


_open_bench: Callable[[], Bench] | None = None
_bench: Bench | None = None


def _set_up(open_bench: Callable[[], Bench]) -> None:
    """Prepare a worker. The bench is opened by the first trial, so that its error reaches the parent whole."""
    global _open_bench
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it shuts the workers down
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _open_bench = open_bench


def _the_bench() -> Bench:
    global _bench
    if _bench is None:
        assert _open_bench is not None
        _bench = _open_bench()
        # Before interpreter exit: by then EGL is gone, and freeing a context fails with a traceback on the log.
        Finalize(_bench, _bench.close, exitpriority=10)
    return _bench


def _leave_with_parent() -> None:
    """A killed parent cannot stop its workers: they watch it and go."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(job: Job) -> TrialRecord:
    return _the_bench().run(job)


def _film(job: Job) -> Film:
    return _the_bench().film(job)
