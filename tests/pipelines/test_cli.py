"""The command line: all of it listed here, quick, and plain about mistakes."""

import argparse
import errno
import os
import re
import resource
import subprocess
import sys

import pytest

from components import state
from pipelines.cli import COMMANDS, build_parser, load_command, main

HEAVY = ("torch", "kfp", "mlflow", "great_expectations", "transformers", "pyarrow", "numpy", "rich", "yaml", "fastapi")
DATA = {"--params", "--preset", "--set", "--dataset", "--from-tag", "--depth-checkpoint"}
IMAGES = {"--images", "--allow-tags"}

TRIGGER = {"--pipeline", "--profile", "--params", "--preset", "--set", *IMAGES}

# Every command with its arguments and options. A new one is added here, and to the README.
EXPECTED = {
    "run": {
        "pipeline", "--profile", "--record", "--remote", "--no-wait", "--once", "--cancel-on-interrupt", *IMAGES, *DATA,
    },
    "runs list": {"--limit", "--json", "--profile"},
    "runs show": {"run", "--json"},
    "runs watch": {"run"},
    "runs cancel": {"run"},
    "runs retry": {"run", "--no-wait"},
    "runs schedule": {"pipeline", "--cron", "--name", "--list", "--remove", "--profile", *IMAGES, *DATA},
    "trigger data": {"address", "--event", "--settle", "--every", "--give-up", "--wait", *TRIGGER},
    "trigger watch": {"address", "--settle", "--every", "--dry-run", *TRIGGER},
    "trigger tag": {"tag", "--wait", *TRIGGER},
    "compile": {"pipeline", "--profile", "--output", *IMAGES, *DATA},
    "step": {"step", "--input", "--artifacts", "--output", *DATA},
    "reproduce": {"reference", "--only", "--remake-data", "--remote", "--fresh-environment"},
    "compare": {"first", "second", "--json", "--html", "--quick", "--remote"},
    "storage report": {"--keep-days", "--json"},
    "storage collect": {"--dry-run", "--keep-days", "--json"},
    "doctor": {"--profile", "--json"},
    "data inspect": {"path", "--pictures"},
    "data validate": {"path", "--output", "--decisions", "--thresholds", "--reference", "--holdout"},
    "data map": {"path", "--robot", "--output"},
    "data release": {"name", "--run", "--remote", *DATA},
    "annotate review": {"dataset", "annotations", "--run", "--output", "--reviewer", "--sample", "--port"},
    "annotate export": {"dataset", "annotations", "--run", "--output", "--video-url", "--no-clips"},
    "annotate import": {"dataset", "tasks", "--run", "--output", "--annotator", "--replace"},
    "annotate sample": {"annotations", "--run", "--output", "--least-confident", "--control", "--seed"},
    "annotate errors": {"dataset", "sample", "reviewed", "--run", "--tolerance", "--json"},
    "annotate agreement": {"dataset", "first", "second", "--run", "--tolerance", "--consensus", "--json"},
    "annotate diversity": {
        "dataset", "annotations", "--run", "--train", "--test", "--holdout-fraction", "--seed", "--top", "--output",
    },
    "annotate checkpoints": {"dataset", "annotations", "--run", "--output", "--benchmark", "--min-share"},
    "evaluate closed": {
        "bundle", "--packed", "--task", "--other-task", "--conditions", "--trials", "--first-seed", "--execute-steps",
        "--max-seconds", "--workers", "--output", "--suite", "--latency-ms", "--real-time", "--server", "--key-file",
    },
    "evaluate open": {"bundle", "--packed", "--looks"},
    "evaluate score": {"trials", "--against", "--protocol", "--points", "--power", "--json", "--page"},
    "evaluate gate": {
        "evaluation", "--champion", "--policy", "--min-trials", "--min-success-rate", "--output", "--verify",
    },
    "checkpoint import": {"source", "target", "--from", "--preset", "--seed"},
    "checkpoint export": {"source", "target", "--shard-size", "--dtype"},
    "bundle create": {"path", "--preset", "--robot", "--seed"},
    "bundle verify": {"path"},
    "models list": {"--model", "--json"},
    "models show": {"version", "--card", "--model", "--json"},
    "models promote": {"version", "--model", "--alias", "--reason", "--override", "--judge-again"},
    "models rollback": {"--model", "--alias", "--to", "--reason"},
    "models canary": {"version", "share", "--end", "--model", "--alias", "--reason", "--override", "--judge-again"},
    "models shadow": {"version", "--end", "--model", "--alias", "--reason"},
    "models history": {"--model", "--alias", "--json"},
    "models verify": {"--model", "--deep"},
    "models replay": {"recording", "--candidate", "--model", "--looks", "--output", "--json"},
    "models lineage": {"reference", "--model", "--json"},
    "plan tokens": {
        "--hours", "--views", "--rate", "--codec", "--teacher", "--tokens", "--monocular", "--gpus",
        "--samples-per-second", "--passes", "--views-per-second", "--teraflops", "--bandwidth", "--months",
        "--gpu-hour-price", "--terabyte-month-price", "--json",
    },
    "plan training": {
        "--gpus", "--hours", "--rate", "--passes", "--preset", "--gpu", "--batch", "--draws", "--mfu", "--spread",
        "--recompute", "--network", "--cores", "--loader", "--bandwidth", "--gpu-hour-price", "--picture", "--json",
    },
    "bench train": {
        "--preset", "--precision", "--threads", "--compile", "--batch", "--draws", "--steps", "--attention",
    },
    "bench infer": {"--preset", "--precision", "--threads", "--compile", "--batch", "--steps", "--attention"},
    "bench loader": {
        "--image-size", "--batch", "--batches", "--video-batches", "--workers", "--variants", "--episodes", "--frames",
    },
    "bench tokens": {"--codecs", "--frames", "--tokens", "--channels", "--processes", "--seconds"},
    "bench serve": {
        "--robots", "--seconds", "--questions", "--rounds", "--image-size", "--model-ms", "--extra-ms",
    },
    "keys add": {"name", "--scope", "--file"},
    "keys revoke": {"name", "--file"},
    "keys list": {"--json", "--file"},
    "serve": {
        "--bundle", "--alias", "--model", "--host", "--port", "--metrics-port", "--max-batch", "--queue-limit",
        "--deadline-seconds", "--poll-seconds", "--episode-seconds", "--drain-seconds", "--guard", "--reuse-port",
        "--tls-certificate", "--tls-key", "--log-format", "--log-level", "--record", "--record-share",
        "--record-megabytes",
    },
}  # fmt: skip


def listed() -> dict[str, set[str]]:
    """Command (and action) -> its arguments and options, from the parsers."""
    found: dict[str, set[str]] = {}

    def walk(name: str, parser: argparse.ArgumentParser) -> None:
        actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in actions:
            for child, child_parser in action.choices.items():
                walk(f"{name} {child}".strip(), child_parser)
        if not actions:
            options = [action for action in parser._actions if action.dest != "help"]
            found[name] = {option for action in options for option in (action.option_strings[:1] or [action.dest])}

    walk("", build_parser())
    return found


def test_every_command_and_option_is_listed_here():
    assert listed() == EXPECTED


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_one_line_of_help(name):
    module = load_command(name)
    assert module.HELP
    assert "\n" not in module.HELP
    assert not module.HELP.endswith(".")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name}" in shown
        assert load_command(name).HELP.split()[0] in shown


def processor_seconds(script: str) -> tuple[float, str]:
    """What a Python that runs it takes, and what it says on stderr."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], cwd=state.checkout(), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr.strip()


def test_help_imports_nothing_heavy_and_is_quick():
    script = (
        "import sys\nfrom pipelines.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    shares = []
    for _ in range(3):  # the best of three: the machine may be busy
        # A yardstick, because machines differ: 0.15 s of the processor where `--help` takes 0.2 and 0.3 is too much.
        yardstick, _ = processor_seconds("import asyncio, unittest.mock, xmlrpc.server")
        seconds, heavy = processor_seconds(script)
        assert heavy == "[]"
        shares.append(seconds / yardstick)
    assert min(shares) < 2


def test_a_mistyped_command_gets_the_nearest_one(capsys):
    assert main(["rnu"]) == 2
    assert "Did you mean 'run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("replay", "`lingbot models replay`"),
        ("verify", "`lingbot bundle verify` or `lingbot models verify`"),
    ],
)
def test_an_action_typed_as_a_command_is_told_where_it_is(name, found, capsys):
    assert main([name, "something"]) == 2
    assert f"unknown command '{name}': it is an action, type {found}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "demonstrations"], "Did you mean 'demonstrations_to_policy'"),
        (["run", "--profile", "laptpo"], "Did you mean 'laptop'"),
        (["run", "--profile", "cluster"], "images of data, simulation, train are named by tags.*--images FILE"),
        (["run", "--profile", "cluster", "--allow-tags"], "KFP_ENDPOINT is ''.*port-forward svc/ml-pipeline"),
        (["run", "--profile", "cluster", "--allow-tags", "--record", "x"], "--record x takes what a run made here"),
        (["run", "--once", "x"], "--once is of runs on a cluster"),
        (["runs", "watch", "last"], "nothing has run yet"),
        (["run", "--set", "pretrain.stesp=1"], "Did you mean 'steps'"),
        (["run", "--dataset", "/nowhere"], "/nowhere.*no such file or folder"),
        (["run", "--dataset", "a", "--from-tag", "b"], "give one of them"),
        (["step", "pakc"], "Did you mean 'pack'"),
        (["step", "pack"], "run `lingbot step validate` first|run `lingbot step collect` first"),
        (["runs", "show", "last"], "nothing has run yet"),
        (["runs", "list", "--limit", "-1"], "--limit is -1: it must be 1 or more"),
    ],
)
def test_mistakes_are_answered_in_one_line_with_code_2(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path))
    for name in ("KFP_ENDPOINT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert error.startswith("lingbot: ")
    assert not list(tmp_path.glob("runs/*")), "what cannot begin is no run, and `last` stays what it was"


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("lingbot ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOTDIR])
def test_a_place_that_may_not_be_written_is_one_line(number, monkeypatch, capsys):
    def refuse(args):
        raise OSError(number, os.strerror(number), "/place/b")

    monkeypatch.setattr(load_command("runs"), "run", refuse)
    assert main(["runs", "list"]) == 2
    said = f"lingbot: /place/b cannot be read or written ({os.strerror(number)}): change that, or name another place\n"
    assert capsys.readouterr().err == said


def test_a_fault_of_the_system_is_no_mistake_of_the_user(monkeypatch):
    def fail(args):
        raise OSError(errno.EIO, "Input/output error", "/place/b")

    monkeypatch.setattr(load_command("runs"), "run", fail)
    with pytest.raises(OSError, match="Input/output error"):
        main(["runs", "list"])


def test_an_interruption_is_code_130(monkeypatch):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(load_command("runs"), "run", stop)
    assert main(["runs", "list"]) == 130
