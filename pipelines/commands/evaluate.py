"""`lingbot evaluate`: try a bundle in simulation or on recordings, score trials, ask the gate."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.arguments import number
from pipelines.commands import evaluate_gate, evaluate_score
from pipelines.tables import difference_text, interval_text, print_table

HELP = "try a policy in simulation or on held-out episodes, score trials, ask the gate"

if TYPE_CHECKING:
    from model.evaluation.records import TrialRecord


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    closed = actions.add_parser("closed", help="closed loop in simulation, on scenes that no demonstration shows")
    closed.add_argument("bundle", type=Path, help="folder of a bundle")
    closed.add_argument("--task", default="lift_right", help="simulated task (default: lift_right)")
    closed.add_argument("--other-task", default="lift_left", help="for the instruction's test (default: lift_left)")
    closed.add_argument("--trials", type=int, default=20, help="scenes a condition (default: 20)")
    closed.add_argument("--first-seed", type=int, default=0, help="number of the first scene (default: 0)")
    closed.add_argument("--conditions", default="policy", help="comma-separated (default: policy); 'all' for every one")
    closed.add_argument("--packed", type=Path, help="packed dataset: what mean_replay replays")
    closed.add_argument("--execute-steps", type=int, default=10, help="steps of a chunk between looks (default: 10)")
    closed.add_argument("--suite", help="comma-separated tasks, each clean and randomised, or 'all'; not --task then")
    closed.add_argument("--latency-ms", type=number, default=0.0, help="simulated time from a look to its chunk")
    closed.add_argument("--real-time", action="store_true", help="real-time chunking: chunks continue the one before")
    closed.add_argument("--server", default="", help="ws://HOST:PORT of an endpoint that serves this bundle")
    closed.add_argument("--key-file", type=Path, help="file with the endpoint's key, where it wants one")
    closed.add_argument("--max-seconds", type=number, default=0.0, help="time limit of a trial; 0: the task's own")
    closed.add_argument("--workers", type=int, help="processes (default: one a core)")
    closed.add_argument("--output", type=Path, help="folder for trials.jsonl; finished trials there are not repeated")
    opened = actions.add_parser("open", help="error of predicted actions on held-out episodes")
    opened.add_argument("bundle", type=Path, help="folder of a bundle")
    opened.add_argument("--packed", type=Path, required=True, help="folder of a packed dataset")
    opened.add_argument("--looks", type=int, default=64, help="frames from which a chunk is predicted (default: 64)")
    score = actions.add_parser("score", help=evaluate_score.HELP)
    evaluate_score.configure(score)
    gate = actions.add_parser("gate", help=evaluate_gate.HELP)
    evaluate_gate.configure(gate)


def run(args: argparse.Namespace) -> int:
    return {"closed": _closed, "open": _open, "score": evaluate_score.run, "gate": evaluate_gate.run}[args.action](args)


def _closed(args: argparse.Namespace) -> int:
    import tempfile

    from components.progress import LogProgress
    from model.bundle import load_bundle
    from model.errors import UserError
    from model.evaluation.actors import mean_trajectory
    from model.evaluation.closed_loop import CONDITIONS, SUITE, Rig, obstacle, plan, plan_suite
    from model.evaluation.records import write_trials
    from model.evaluation.workers import process_crew, run_jobs
    from model.simulation.tasks import TASKS, find_task

    bundle = load_bundle(args.bundle)
    reason = obstacle(bundle)
    if reason:
        raise UserError(f"{args.bundle} cannot be tried in closed loop: {reason}; use `lingbot evaluate open`")
    conditions = tuple(CONDITIONS) if args.conditions == "all" else tuple(args.conditions.split(","))
    task = find_task(args.task)
    if args.suite:
        conditions = tuple(SUITE)
        tasks = tuple(TASKS) if args.suite == "all" else tuple(args.suite.split(","))
        jobs = plan_suite(tasks, trials=args.trials, first_seed=args.first_seed)
    else:
        seeds = {"trials": args.trials, "first_seed": args.first_seed}
        jobs = plan(conditions, task=args.task, other_task=args.other_task, **seeds)
    trajectory = None
    if "mean_replay" in conditions:
        if args.packed is None:
            raise UserError("mean_replay needs the demonstrations: give --packed, or leave it out of --conditions")
        trajectory = mean_trajectory(_open_packed(args.packed), task.instruction)
    rig = Rig(
        bundle=args.bundle,
        execute_steps=args.execute_steps,
        max_seconds=args.max_seconds,
        trajectory=trajectory,
        latency_ms=args.latency_ms,
        real_time=args.real_time,
        server=args.server,
        key=_read_key(args.key_file) if args.key_file else "",
    )
    rig.pace(bundle)
    with ExitStack() as stack:
        folder = args.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        crew = stack.enter_context(process_crew(rig.open, workers=args.workers, jobs=len(jobs)))
        scratch = folder / f".trials-{rig.digest(bundle.digest)[:16]}.jsonl"
        records = run_jobs(jobs, crew, scratch=scratch, progress=LogProgress("evaluate"))
        write_trials(folder / "trials.jsonl", records)
    if args.suite:
        _print_suite(records)
    else:
        _print_scores(records)
    if args.output:
        print(f"\ntrials: {args.output / 'trials.jsonl'}")
    return 0


def _read_key(path: Path) -> str:
    from model.errors import UserError

    if not path.is_file():
        raise UserError(f"--key-file {path} is not a file: give one that holds the endpoint's key")
    return path.read_text(encoding="utf-8").strip()


def _open(args: argparse.Namespace) -> int:
    from model.bundle import load_bundle
    from model.errors import UserError
    from model.evaluation.open_loop import open_loop_figures, predict_chunks, spread

    bundle, packed = load_bundle(args.bundle), _open_packed(args.packed)
    rows = packed.rows("holdout")
    if not len(rows):
        raise UserError(f"{args.packed} holds no episode out of training: pack with pack.holdout_fraction above 0")
    if args.looks < 1:
        raise UserError(f"--looks is {args.looks}: it must be 1 or more")
    figures = open_loop_figures(bundle, packed, predict_chunks(bundle, packed, spread(rows, args.looks)))
    print(f"{figures['looks']} looks in {figures['episodes']} held-out episodes, mean absolute error of the action")
    header = ["joints", "unit", *(f"{horizon} ahead" for horizon in figures["horizons"])]
    groups = {"all that move": figures["overall"], **figures["groups"]}
    rows_text = [[name, group["unit"], *(_error(value) for value in group["mae"])] for name, group in groups.items()]
    print_table([header, *rows_text])
    return 0


def _open_packed(path: Path) -> Any:
    from model.data.packed import PackedDataset

    return PackedDataset.open(path)


def _print_scores(records: "Sequence[TrialRecord]") -> None:
    from model.evaluation.summary import closed_loop_figures

    figures = closed_loop_figures(records)
    rows = [["condition", "trials", "SR", "95%", "PS", "95%"]]
    for name, score in figures["closed_loop"].items():
        sr, ps = (interval_text(score, key) for key in ("sr", "ps"))
        rows.append([name, str(score["trials"]), f"{score['sr']:.0%}", sr, f"{score['ps']:.0%}", ps])
    print_table(rows)
    for name, paired in figures["paired"].items():
        print(f"{name.replace('_', ' ')}: {difference_text(paired)} on the same seeds, p {paired['p']:.2g}")


def _print_suite(records: "Sequence[TrialRecord]") -> None:
    from model.evaluation.suite import suite_figures
    from model.simulation.tasks import TASKS

    rows = [["task", "condition", "trials", "SR", "95%", "PS", "95%"]]
    for task, conditions in suite_figures(records).items():
        name = f"{task} (held out)" if TASKS[task].held_out else task
        for condition, score in conditions.items():
            sr, ps = (interval_text(score, key) for key in ("sr", "ps"))
            rows.append([name, condition, str(score["trials"]), f"{score['sr']:.0%}", sr, f"{score['ps']:.0%}", ps])
    print_table(rows)


def _error(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
