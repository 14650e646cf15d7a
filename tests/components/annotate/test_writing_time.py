"""How long the texts of many episodes take, against an endpoint that is slow and fails: an idle machine is needed.

PYTHONPATH=. python tests/components/annotate/test_writing_time.py measures and prints, whatever the machine does.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from model.data.annotations import read_annotations
from tests.components.annotate.chat_server import ChatServer, running, valid_answer
from tests.components.annotate.recordings import no_quarantine, picking_twice, write_picks

EPISODES, SEGMENTS, CONCURRENCY, SECONDS = 200, 8, 16, 0.2
# The step in a process of its own, as in a run: the stand-in does not share its interpreter.
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from components.annotate import step
from model.progress import Silent
root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
inputs = {"dataset": root / "dataset", "verdict": root / "verdict"}
started = time.monotonic()
summary = step.run(inputs, Path(sys.argv[3]), step.Parameters(**settings), Silent())
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu": used.ru_utime + used.ru_stime, **summary}))
"""


def annotate(root: Path, server: ChatServer, name: str) -> dict[str, Any]:
    """The step's summary, with its wall time and CPU time in seconds."""
    settings = {
        "writer": "endpoint", "endpoint": server.url, "model": "qwen3-vl", "concurrency": CONCURRENCY, "attempts": 8,
        "timeout_seconds": 1.0,
    }  # fmt: skip
    (root / name).mkdir()
    environment = os.environ | {"LINGBOT_HOME": str(root / "home"), "PYTHONPATH": os.getcwd()}
    arguments = [sys.executable, "-c", PROGRAM, str(root), json.dumps(settings), str(root / name)]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, check=True, timeout=600)
    return json.loads(done.stdout)


def measure(root: Path, episodes: int) -> dict[str, Any]:
    """One run with a tenth of the calls failing, a second that finds everything kept, and what they took."""
    write_picks(root / "dataset", episodes, motion=picking_twice, pixels=64)
    no_quarantine(root / "verdict")
    with running(ChatServer(seconds=SECONDS, fault_share=0.1, hang_seconds=3.0)) as server:
        first = annotate(root, server, "first")
        again = annotate(root, server, "again")
    rows = read_annotations(root / "first")
    ideal = episodes * (SEGMENTS + 1) * SECONDS / CONCURRENCY
    valid = sum(row["sub_task"] == valid_answer("segment")["sub_task"] for row in rows)
    return {
        "ideal": ideal, "times_ideal": first["seconds"] / ideal, "segments": len(rows), "valid": valid,
        "faults": dict(server.faults), "asked_again_after_an_answer": sum(n > 1 for n in server.answered.values()),
        "requests_of_second_run": again["requests"], "first": first,
    }  # fmt: skip


@pytest.mark.soak
def test_two_hundred_episodes_take_at_most_1_3_times_the_ideal(tmp_path: Path) -> None:
    found = measure(tmp_path, EPISODES)
    assert found["segments"] == found["valid"] == EPISODES * SEGMENTS
    assert sum(found["faults"].values()) > EPISODES * SEGMENTS * 0.08
    assert found["asked_again_after_an_answer"] == 0 and found["requests_of_second_run"] == 0
    assert found["times_ideal"] <= 1.3, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else EPISODES), indent=1))
        print("load", os.getloadavg())
