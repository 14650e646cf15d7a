"""Ctrl-C while a run on a cluster is watched: it goes on, unless it was asked to end with the watching."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.cluster.api import Kubeflow
from pipelines.cluster.following import STOPPED
from pipelines.cluster.submission import end_run
from pipelines.signals import stop_on_signals


@dataclass
class Left:
    """For a block that was left: the exit code."""

    code: int = STOPPED


@contextlib.contextmanager
def leaving(kfp: Kubeflow, run_id: str, name: str, *, cancel: bool) -> Iterator[Left]:
    """A block that Ctrl-C, a polite kill or a closed terminal ends early. What happens to the run is said.

    Args:
        kfp: where the run is.
        run_id: Kubeflow's.
        name: of the run, for commands.
        cancel: end the run too.
    """
    try:
        with stop_on_signals():
            yield Left()
    except KeyboardInterrupt:
        if cancel:
            end_run(kfp, kfp.run(run_id))
            print(f"run {run_id} is cancelled", file=sys.stderr)
        else:
            print(
                f"left run {run_id}, which goes on: `lingbot runs watch {name}` comes back, "
                f"`lingbot runs cancel {name}` ends it",
                file=sys.stderr,
            )
