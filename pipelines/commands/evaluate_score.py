"""`lingbot evaluate score`: SR and PS with intervals from trial records, alone or against another policy's."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.arguments import number
from pipelines.tables import difference_text, interval_text, print_table

HELP = "SR and PS with intervals from files of trials, alone or against another policy's"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trials", type=Path, nargs="+", help="trials.jsonl, or a CSV of trials on real arms")
    parser.add_argument("--against", type=Path, help="trials of the policy to compare with: same tasks and seeds")
    parser.add_argument("--protocol", type=Path, help="YAML of a benchmark's tasks, checkpoints, trials and time limit")
    parser.add_argument("--points", type=number, default=10.0, help="difference to plan trials for (default: 10)")
    parser.add_argument("--power", type=number, default=0.8, help="chance to see that difference (default: 0.8)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write tables and charts as one HTML page")


def run(args: argparse.Namespace) -> int:
    sheet = _sheet(args)
    if args.page:
        from pipelines.report.scores import write_score_page

        write_score_page(sheet, args.page, against=args.against.name if args.against else "")
    if args.json:
        print(json.dumps(sheet, indent=1, sort_keys=True, allow_nan=False))
        return 0
    _print_scores(sheet["scores"])
    for name, paired in sheet["paired"].items():
        print(f"{name.replace('_', ' ')}: {difference_text(paired)} on the same seeds, p {paired['p']:.2g}")
    for row in sheet["against"] or ():
        _print_against(row, str(args.against))
    if sheet["published"]:
        _print_published(sheet["published"])
    for sentence in sheet["missing"]:
        print(f"incomplete: {sentence}")
    print()
    for condition, needed in sheet["needed"].items():
        rates = f"SR {needed['other_sr']:.0%} from {needed['sr']:.0%} with {needed['power']:.0%} power"
        seeds = f"at most {needed['seeds']} common seeds, fewer if both fail on the same scenes"
        print(f"{condition}: to tell {rates} takes {needed['each']} trials of each policy, or {seeds}")
    return 0


def _sheet(args: argparse.Namespace) -> dict[str, Any]:
    from components.artifacts import hash_file
    from model.evaluation.closed_loop import BASELINES
    from model.evaluation.ingest import ingest
    from model.evaluation.protocol import read_protocol
    from model.evaluation.published import beside
    from model.evaluation.records import SIMULATION, group
    from model.evaluation.scoresheet import (
        SCHEMA_VERSION,
        against_rows,
        policy_rows,
        score_rows,
        trials_needed,
    )
    from model.evaluation.summary import closed_loop_figures

    protocol = read_protocol(args.protocol) if args.protocol else None
    records = ingest(args.trials, protocol)
    champion = ingest([args.against], protocol) if args.against else None
    simulated = records[0].benchmark == SIMULATION
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark": records[0].benchmark,
        "files": [{"name": path.name, "sha256": hash_file(path).sha256} for path in args.trials],
        "policies": policy_rows(records),
        "scores": score_rows(records),
        "paired": closed_loop_figures(records)["paired"] if simulated else {},
        "against": against_rows(records, champion) if champion else None,
        "published": beside(records),
        "missing": protocol.missing(records) if protocol else [],
        "needed": {
            condition: trials_needed(trials, difference=args.points / 100, power=args.power)
            for condition, trials in group(records).items()
            if condition not in BASELINES
        },
    }


def _print_scores(scores: Sequence[dict[str, Any]]) -> None:
    """One line a score; a column that says the same in every line, or twice the same in each, is left out."""
    labels = {"robot": "robot", "policy": "policy", "condition": "condition"}
    if all(row["policy"] == row["condition"] for row in scores):
        del labels["policy"]
    shown = [name for name in labels if name == "condition" or len({row[name] for row in scores}) > 1]
    errors = any(row["errors"] for row in scores)
    header = [*shown, "task", "trials", "SR", "95%", "PS", "95%", *(["errors"] if errors else [])]
    lines = [header]
    for row in scores:
        task = row["task"] or f"all {row['tasks']} tasks"
        figures = [_percent(row["sr"]), interval_text(row, "sr"), _percent(row["ps"]), interval_text(row, "ps")]
        ending = [str(row["errors"])] if errors else []
        lines.append([*(row[name] for name in shown), task, str(row["trials"]), *figures, *ending])
    print_table(lines)
    if any(row["task"] is None and row["ps_over"] == "tasks" for row in scores):
        print("PS of all tasks: the interval is over tasks, for more tasks of this kind")


def _print_against(row: dict[str, Any], champion: str) -> None:
    difference = row["difference"]
    how = f"{difference['trials']} common seeds, McNemar" if row["paired"] else "separate trials, Fisher"
    print(f"\n{row['condition']} against {champion}: SR {difference_text(difference)} on {how} p {difference['p']:.2g}")
    print(f"PS {difference_text(difference, 'ps_')}")
    lines = [["robot", "task", "trials", "SR", "against", "points", "95%", "p worse", "Holm"]]
    for task in row["tasks"]:
        interval = f"{100 * task['low']:+.0f} to {100 * task['high']:+.0f}"
        rates = [_percent(task["sr_first"]), _percent(task["sr_second"]), f"{100 * task['difference']:+.0f}", interval]
        p = [f"{task['p_worse']:.2g}", f"{task['p_holm']:.2g}"]
        lines.append([task["robot"], task["task"], str(task["trials_first"]), *rates, *p])
    print_table(lines)
    worse = [f"{task['task']} on {task['robot']}" for task in row["tasks"] if task["regressed"]] or ["no task"]
    corrected = f"corrected for {len(row['tasks'])} tasks (Holm)"
    print(f"worse at {row['significance']:.0%}, {corrected}: {', '.join(worse)}")


def _print_published(published: dict[str, Any]) -> None:
    print(
        f"\n{published['title']} as published, in percent ({published['tried']} of its {published['tasks']} tasks here)"
    )
    sources = list(dict.fromkeys(one["source"] for one in published["results"]))
    lines = [["policy", "robot", "condition", "SR", "PS", "source"]]
    for one in published["results"]:
        rates = [f"{100 * one[key]:.2f}" if one[key] is not None else "" for key in ("sr", "ps")]
        lines.append([one["policy"], one["robot"], one["condition"], *rates, str(sources.index(one["source"]) + 1)])
    print_table(lines)
    for place, source in enumerate(sources, 1):
        print(f"{place}: {source}")


def _percent(rate: float) -> str:
    return f"{rate:.0%}"
