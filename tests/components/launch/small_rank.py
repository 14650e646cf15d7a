"""A rank for tests of launchers, without torch: `small_rank.py BEHAVIOUR FOLDER`. Each leaves its pid in the folder."""

import os
import signal
import sys
import time
from pathlib import Path

RANK = int(os.environ["RANK"])
BEHAVIOUR, FOLDER = sys.argv[1], Path(sys.argv[2])
FAR = 600  # seconds; a rank that nobody ends is seen as one that outlives its test


def wait() -> None:
    time.sleep(FAR)


def saves_when_told() -> None:
    """Ends with 75 on SIGTERM; the next attempt finds what was saved and ends well."""
    saved = FOLDER / f"saved-{RANK}"
    if saved.exists():
        return

    def save(number: int, frame: object) -> None:
        saved.touch()
        sys.exit(75)

    signal.signal(signal.SIGTERM, save)
    print("ready", flush=True)
    wait()


def main() -> None:
    (FOLDER / f"pid-{RANK}").write_text(str(os.getpid()))
    print(f"rank {RANK} of {os.environ['WORLD_SIZE']}: {os.environ.get('GREETING', '')}", flush=True)
    (FOLDER / f"said-{RANK}").touch()
    while BEHAVIOUR == "fails" and not (FOLDER / "said-0").exists():  # what rank 0 says is heard before another fails
        time.sleep(0.02)
    if BEHAVIOUR == "fails" and RANK == 1:
        raise ValueError("sample 17 holds no image")
    if BEHAVIOUR == "is killed" and RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if BEHAVIOUR in ("fails", "is killed"):
        wait()
    if BEHAVIOUR == "saves":
        saves_when_told()
    if BEHAVIOUR == "is stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        wait()


main()
