"""`lingbot evaluate gate`: may this evaluation move an alias? Says why, and can write a verdict or check one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.arguments import number

if TYPE_CHECKING:
    from components.promote.gate import Inputs

NOT_PROMOTED = 3
HELP = f"may this evaluation move an alias? Exit code {NOT_PROMOTED} when not"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evaluation", metavar="CANDIDATE", type=Path, help="evaluation.json, or the folder that has it")
    parser.add_argument("--champion", metavar="EVALUATION", type=Path, help="that of the version that holds the alias")
    parser.add_argument("--policy", metavar="FILE", type=Path, help="YAML of what is asked for (default: as shipped)")
    parser.add_argument("--min-trials", type=int, help="closed-loop trials, instead of the policy's number")
    parser.add_argument("--min-success-rate", type=number, help="least lower bound of SR, from 0 to 1, likewise")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the verdict as JSON, bound to its inputs")
    parser.add_argument("--verify", metavar="VERDICT", type=Path, help="check that this verdict is of these inputs")


def run(args: argparse.Namespace) -> int:
    import dataclasses

    from components import state
    from components.promote.gate import judge_inputs, load_policy, verify
    from model.errors import UserError

    inputs = _inputs(args.evaluation, args.champion)
    if args.verify:
        given = {"--policy": args.policy, "--min-trials": args.min_trials, "--min-success-rate": args.min_success_rate}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise UserError(f"--verify takes the policy from the verdict: leave out {', '.join(extra)}")
        stored = _read_json(args.verify, "a verdict that `lingbot evaluate gate --output` wrote")
        verify(stored, inputs)
        print(f"{args.verify} is the gate's verdict on these inputs: {'passed' if stored['promote'] else 'refused'}")
        return 0 if stored["promote"] else NOT_PROMOTED
    named = {"min_trials": args.min_trials, "min_success_rate": args.min_success_rate}
    given = {name: value for name, value in named.items() if value is not None}
    verdict = judge_inputs(inputs, dataclasses.replace(load_policy(args.policy), **given))
    print(verdict.sentence())
    for warning in verdict.warnings:
        print(f"warning: {warning}")
    if args.output:
        state.write_json(args.output, verdict.to_json())
    return 0 if verdict.promote else NOT_PROMOTED


def _inputs(candidate: Path, champion: Path | None) -> "Inputs":
    from components.promote.gate import Inputs

    evaluation, trials = _evidence(candidate)
    theirs, their_trials = (None, None) if champion is None else _evidence(champion)
    return Inputs(evaluation=evaluation, trials=trials, champion_evaluation=theirs, champion_trials=their_trials)


def _evidence(path: Path) -> tuple[bytes, bytes | None]:
    """The evaluation, and the trials.jsonl that lies beside it if there is one."""
    from model.errors import UserError

    file = path / "evaluation.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} is not a file: give the evaluation.json of an evaluate step")
    if "bundle_digest" not in _read_json(file, "the evaluation.json of an evaluate step"):
        raise UserError(f"{file} names no bundle that it is of: give the evaluation.json of an evaluate step")
    trials = file.with_name("trials.jsonl")
    return file.read_bytes(), trials.read_bytes() if trials.is_file() else None


def _read_json(path: Path, wanted: str) -> dict[str, Any]:
    import json

    from model.errors import UserError

    if not path.is_file():
        raise UserError(f"{path} is not a file: give {wanted}")
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): give {wanted}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is a {type(values).__name__}: give {wanted}")
    return values
