"""`lingbot run` as a person runs it: real KFP, real processes, small steps (see conftest.House)."""

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from components.steps import STEPS
from tests.pipelines.conftest import House

ALL = [name for name in STEPS if name not in ("ingest", "subset", "study")]
FROM_PACK = ["pack", "pretrain", "pretrain from 0", "finetune", "finetune from 0", "evaluate", "register", "promote"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> House:
    """A house in which one run went through."""
    house = House(tmp_path_factory.mktemp("finished"))
    result = house.lingbot("run")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(house.executed()) == sorted([*ALL, "pretrain from 0", "finetune from 0"])
    return house


def record(house: House) -> dict:
    return json.loads(sorted(house.home.glob("runs/*/run.json"))[-1].read_text())


def folder_of(house: House, step: str) -> Path:
    return Path(next(entry["folder"] for entry in record(house)["steps"] if entry["name"] == step))


LONG = 150.0  # seconds for what takes a few; the machine may be busy


def wait_for(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes_of(house: House) -> list[str]:
    """Command lines of living processes of the house: each has the house's folder in its environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(house.home).encode() in environment and command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def test_the_record_of_a_run_is_complete(finished):
    run = record(finished)
    assert run["status"] == "done"
    assert [entry["name"] for entry in run["steps"]] == ALL
    for entry in run["steps"]:
        assert entry["status"] == "done"
        assert entry["summary"]["name"] == entry["name"]
        assert entry["parameters"]["amount"] == 2
        assert (Path(entry["folder"]) / "result.txt").exists()
    assert run["seed"] == 7
    assert run["threads"] == 1
    assert run["provenance"]["packages"]["kfp"]
    assert run["served"]["what"] == "the bundle of this run (not promoted)"
    assert Path(run["report"]).exists()
    reference = json.loads(next(finished.home.glob("kfp/*/*/pack/packed")).read_text())
    assert reference["digest"] == next(entry["digest"] for entry in run["steps"] if entry["name"] == "pack")
    assert "files" not in reference


def test_a_second_run_does_nothing_again_and_ends_with_the_summary(finished):
    result = finished.lingbot("run")
    assert result.returncode == 0
    assert finished.executed() == []
    assert "finished before" in result.stdout
    assert {entry["status"] for entry in record(finished)["steps"]} == {"cached"}
    for line in (
        "episodes     240 in, 2 quarantined, 0.61 h usable",
        "pretrain     1,612,345 parameters, 2 steps, 123 samples/s, 1.2% waiting for data, depth alignment on",
        "closed loop  SR 82% [73, 88], PS 90% [85, 95], 100 trials: the policy",
        "             SR 4% [2, 10], PS 90% [85, 95], 100 trials: replaying the mean trajectory",
        "             +78 points [+69, +85] over replaying the mean trajectory, on the same seeds",
        "open loop    mean error 0.0123 after 1, 0.0456 after 20 steps",
        "version      lingbot-vla-aloha_sim version 3",
        "promotion    not promoted: 2 trials, it takes 50",
        "endpoint     the bundle of this run (not promoted): answered over HTTP and the websocket",
    ):
        assert f"{line}\n" in result.stdout
    assert "pretrain reused" in result.stdout
    assert record(finished)["report"] in result.stdout.splitlines()[-1]


def test_one_changed_byte_repeats_that_step_and_what_depends_on_it(finished):
    path = folder_of(finished, "pack") / "more/numbers.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    result = finished.lingbot("run")
    assert result.returncode == 0
    assert finished.executed() == FROM_PACK
    assert f"changed: {path} was changed" in result.stdout
    assert "pack, pretrain, finetune, evaluate, register, promote run again" in result.stdout


def test_a_changed_parameter_repeats_what_depends_on_it(finished):
    result = finished.lingbot("run", "--set", "evaluate.amount=4")
    assert result.returncode == 0
    assert finished.executed() == ["evaluate", "register", "promote"]
    assert "runs from evaluate: amount 2 -> 4" in result.stdout


def test_changed_code_repeats_what_depends_on_it(finished):
    helper = finished.root / "components/register/helper.py"
    helper.write_text(helper.read_text() + "# another version\n")
    result = finished.lingbot("run")
    assert result.returncode == 0
    # The version comes out equal, byte for byte, so the promotion that was made from it stands.
    assert finished.executed() == ["register"]
    assert "other code" in result.stdout


def test_what_the_registry_lost_is_registered_again(finished):
    lost = Path(f"{finished.log}.lost")
    lost.touch()
    result = finished.lingbot("run")
    lost.unlink()
    assert result.returncode == 0
    assert finished.executed() == ["register", "promote"]
    assert "what 'register' wrote elsewhere is not there any more" in result.stdout


@pytest.mark.parametrize(
    ("trouble", "code", "told"),
    [
        ("user", 2, "step 'annotate' failed: label is 'user': choose another"),
        ("fault", 1, "step 'annotate' failed: the wheel came off"),
        ("full", 2, "step 'annotate' failed: the disk is full"),
        ("killed", 1, "step 'annotate' failed: its process was killed"),
    ],
)
def test_an_error_says_the_step_the_cause_and_how_to_go_on(finished, trouble, code, told):
    result = finished.lingbot("run", "--set", f"annotate.label={trouble}")
    assert result.returncode == code, result.stdout + result.stderr
    assert told in result.stdout
    assert "collect, validate" in result.stdout
    assert "the same command goes on at 'annotate'" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert finished.executed()[-1] == "annotate"
    run = record(finished)
    assert run["status"] == "failed"
    assert run["error"]["step"] == "annotate"
    if trouble == "fault":
        report = json.loads((finished.home / "runs" / run["id"] / "errors/annotate.json").read_text())
        assert "the wheel came off" in report["traceback"]
        assert report["type"] == "RuntimeError"


def test_steps_run_alone_and_say_what_they_miss(finished):
    result = finished.lingbot("step", "evaluate", "--set", "evaluate.amount=77", "--output", str(finished.home / "ref"))
    assert result.returncode == 0, result.stderr
    assert finished.executed() == ["evaluate"]
    assert (Path(result.stdout.splitlines()[-1]) / "result.txt").exists()
    reference = json.loads((finished.home / "ref").read_text())
    assert reference["parameters"]["amount"] == 77
    result = finished.lingbot("step", "register", "--input", f"evaluation={finished.home / 'ref'}")
    assert result.returncode == 0
    result = finished.lingbot("step", "register", "--set", "evaluate.amount=78")
    assert result.returncode == 2
    assert "run `lingbot step evaluate` first" in result.stderr
    result = finished.lingbot("step", "register", "--input", f"policy={finished.home / 'ref'}")
    assert result.returncode == 2
    assert "was made by 'evaluate': 'policy' comes from finetune" in result.stderr
    finished.executed()


def test_runs_are_listed_and_shown(finished):
    listed = finished.lingbot("runs", "list", "--json").stdout.splitlines()
    assert len(listed) == len(list(finished.home.glob("runs/*/run.json")))
    shown = finished.lingbot("runs", "show", "last")
    assert shown.returncode == 0
    for name in ALL:
        assert name in shown.stdout
    assert finished.lingbot("runs", "show", "20200101").returncode == 2


def test_a_dataset_is_ingested_instead(finished, tmp_path):
    (tmp_path / "cubes").mkdir()
    (tmp_path / "cubes/episode").write_text("1")
    result = finished.lingbot("run", "--dataset", str(tmp_path / "cubes"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert finished.executed()[0] == "ingest"
    (tmp_path / "cubes").rename(tmp_path / "moved")
    result = finished.lingbot("run", "--dataset", str(tmp_path / "moved"))
    assert result.returncode == 0
    assert finished.executed() == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to look for processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(finished, number):
    amount = 1000 + number
    command = finished.command("run", "--set", f"pretrain.amount={amount}")
    left = set(finished.home.glob("steps/pretrain/*/work/count"))  # by other stopped runs of this house
    process = subprocess.Popen(
        command,
        cwd=finished.root,
        env=finished.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def counts() -> list[Path]:
        new = set(finished.home.glob("steps/pretrain/*/work/count")) - left
        return [path for path in new if int(path.read_text() or 0) > 5]

    found: list[Path] = []
    try:
        # kept from before the signal: a kill may come between emptying the file and writing it
        wait_for(lambda: found.extend(counts()) or found)
        path = found[0]
        process.send_signal(number)
        output, _ = process.communicate(timeout=LONG)
    finally:
        process.kill()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "What is finished is kept" in output
    wait_for(lambda: not processes_of(finished))
    status = json.loads(finished.lingbot("runs", "list", "--json").stdout.splitlines()[0])["status"]
    assert status == ("killed" if number == signal.SIGKILL else "stopped")
    path.write_text(str(amount - 2))
    finished.executed()
    result = finished.lingbot("run", "--set", f"pretrain.amount={amount}")
    assert result.returncode == 0
    assert "runs from pretrain: it was interrupted and goes on" in result.stdout
    assert finished.executed()[:2] == ["pretrain", f"pretrain from {amount - 2}"]


def test_no_temporary_folder_stays(finished):
    """Also those of a killed run: the next one removes them."""
    runs = {path.name for path in (finished.home / "runs").iterdir()}
    assert len(runs) > 5
    assert not [path for path in Path(tempfile.gettempdir()).glob("lingbot-*") if path.name[8:] in runs]
