"""`lingbot data validate`: the checks of the step `validate`, on a dataset that is in no run."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HELP = "read every frame of a dataset, and say what is wrong and which episodes to leave out"
SHOWN = 20  # findings printed before the rest is counted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder of a LeRobot dataset (v2.0, v2.1 or v3.0)")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="keep verdict.json, quarantine.yaml, pictures/ and data_docs/ there"
    )
    parser.add_argument("--decisions", metavar="FILE", default="", help="a reviewer's decisions: keep, drop, fixed")
    parser.add_argument("--thresholds", metavar="FILE", default="", help="replaces thresholds of the robot")
    parser.add_argument("--reference", metavar="PATH", default="", help="dataset that the statistics must be like")
    parser.add_argument("--holdout", metavar="PATH", default="", help="dataset whose episodes must not be in this one")


def run(args: argparse.Namespace) -> int:
    """Exit code by severity: 0 without an error, 1 when episodes are left out, 2 when nothing is usable."""
    from components.validate.step import Parameters, validate

    chosen = {name: getattr(args, name) for name in ("decisions", "thresholds", "reference", "holdout")}
    with _folder(args.output) as folder:
        verdict = validate(Path(args.path), folder, Parameters(**chosen), _Counter())
    print(describe(verdict))
    if args.output is None:
        print("Give --output DIR to keep verdict.json, quarantine.yaml, the pictures and the Data Docs.")
    else:
        print(f"Data Docs: {args.output / 'data_docs' / 'index.html'}")
    if not verdict["usable"]:
        return 2
    return int(any(finding["severity"] == "error" for finding in verdict["findings"]))


def describe(verdict: Mapping[str, Any]) -> str:
    """The text that the command prints."""
    facts, findings = verdict["dataset"], verdict["findings"]
    lines = [
        f"{verdict['episodes_usable']} of {verdict['episodes_total']} episodes are usable "
        f"({facts['hours_usable']:.3f} h, robot {facts['robot']}, LeRobot {facts['version']})"
    ]
    counts = Counter((finding["severity"], finding["rule"]) for finding in findings)
    lines += [f"  {severity:<8}{rule:<28}{number:>6}" for (severity, rule), number in sorted(counts.items())]
    lines += [f"{finding['severity']}: {finding['message']}" for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"... and {len(findings) - SHOWN} more findings")
    if not findings:
        lines.append("nothing was found")
    return "\n".join(lines)


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    from model.errors import UserError

    if output is None:
        with tempfile.TemporaryDirectory(prefix="lingbot-validate-") as scratch:
            yield Path(scratch)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output '{output}' cannot be made a folder: {error.strerror}. Give another.") from error
    yield output


class _Counter:
    """Counts episodes on one line of a terminal; silent elsewhere."""

    def update(self, done: int, total: int, **figures: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} episodes", end="\n" if done == total else "", file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        if sys.stderr.isatty():
            print(text, file=sys.stderr)
