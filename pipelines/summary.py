"""The summary of a run, from what its steps said about their artefacts."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.live import duration
from pipelines.report.cost import cost_sentence

# How the conditions of an evaluation are called, in the order in which they are shown.
_CONDITIONS = {
    "policy": "the policy",
    "mean_replay": "replaying the mean trajectory",
    "untrained": "untrained",
    "blank_images": "blanked images",
    "other_task": "the other task",
    "swapped": "with the other task's words",
    "swapped_other": "the other task, with this one's words",
}


def summary_lines(run: Mapping[str, Any]) -> list[str]:
    """The lines that end a run: uncommitted code, data, training, evidence, version, endpoint, times, report.

    A step that has not finished is left out.
    """
    made = {entry["name"]: entry["summary"] for entry in run["steps"] if "summary" in entry}
    lines = [*_code(run), *_data(made), *_texts(made), *_training(made), *_evidence(made)]
    lines += [*_twin(run.get("twin")), *_version(made)]
    lines += _study(made)
    if run["served"]:
        lines.append(_line("endpoint", f"{run['served']['what']}: answered over HTTP and the websocket"))
    lines += _times(run)
    if run.get("cost"):
        lines.append(_line("cost", cost_sentence(run["cost"])))
    if run["report"]:
        lines.append(_line("report", run["report"]))
    return ["", *lines] if lines else []


def summary_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wants to know of a run: `runs/<id>/summary.json`. A step that has not finished has no summary."""
    return {
        "schema_version": 1,
        **{name: run[name] for name in ("id", "pipeline", "status", "started", "seconds", "preset", "seed")},
        "steps": {
            entry["name"]: {"status": entry["status"], "seconds": entry.get("seconds"), "summary": entry.get("summary")}
            for entry in run["steps"]
        },
        "cost": run["cost"],
    }


def _line(title: str, text: str) -> str:
    return f"{title:12} {text}"


def _code(run: Mapping[str, Any]) -> Iterator[str]:
    code = run["provenance"]["code"]
    if code["dirty"] is not None:
        changed = code["changed"]
        named = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        yield _line("code", f"with changes that are in no commit ({named}): the run is marked dirty")


def _data(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    verdict = made.get("validate")
    if verdict:
        out = f"{verdict['quarantined']} quarantined"
        yield _line("episodes", f"{verdict['episodes']} in, {out}, {verdict['hours']:.2f} h usable")


def _texts(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the model took that wrote the annotations' texts; template sentences take nothing."""
    annotated = made.get("annotate", {})
    if "requests" in annotated:
        from components.annotate.step import spent

        yield _line("texts", spent(annotated))


def _training(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name in ("pretrain", "finetune"):
        result = made.get(name)
        if result:
            yield _line(
                name,
                f"{result['parameters']:,} parameters, {result['steps']} steps, {result['samples_per_second']:.0f} "
                f"samples/s, {100 * result['data_wait']:.1f}% waiting for data, depth alignment "
                f"{result['depth_alignment']}",
            )


def _evidence(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    evaluation = made.get("evaluate")
    if not evaluation:
        return
    if isinstance(evaluation["closed_loop"], str):
        yield _line("closed loop", evaluation["closed_loop"])
    else:
        conditions = evaluation["closed_loop"]
        for name in sorted(conditions, key=lambda name: [*_CONDITIONS, name].index(name)):
            scores = conditions[name]
            title = "closed loop" if name == "policy" else ""
            yield _line(
                title,
                f"SR {_share(scores, 'sr')}, PS {_share(scores, 'ps')}, {scores['trials']} trials: "
                f"{_CONDITIONS.get(name, name.replace('_', ' '))}",
            )
        for name, paired in evaluation["paired"].items():
            if name == "vs_mean_replay":
                yield _line("", f"{_points(paired)} over replaying the mean trajectory, on the same seeds")
    if "open_loop_error" in evaluation:
        by_horizon = sorted(evaluation["open_loop_error"].items(), key=lambda item: int(item[0]))
        errors = ", ".join(f"{error:.3g} after {steps}" for steps, error in by_horizon)
        yield _line("open loop", f"mean error {errors} steps")


def _twin(twin: Mapping[str, Any] | None) -> Iterator[str]:
    """The same run with depth alignment switched over, where this machine has one; older records know of none."""
    if twin:
        which = "with" if twin["aligned"] else "without"
        yield _line("", f"SR {_share(twin['policy'], 'sr')}: the same run {which} depth alignment ({twin['run']})")
        yield _line("", f"{_points(twin['paired'])} over it, on the same seeds")


def _points(paired: Mapping[str, Any]) -> str:
    """A paired difference in points with its 95% interval."""
    low, high = 100 * paired["low"], 100 * paired["high"]
    return f"{100 * paired['difference']:+.0f} points [{low:+.0f}, {high:+.0f}]"


def _share(scores: Mapping[str, Any], name: str) -> str:
    """A rate in percent with its 95% interval."""
    return f"{100 * scores[name]:.0f}% [{100 * scores[f'{name}_low']:.0f}, {100 * scores[f'{name}_high']:.0f}]"


def _study(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a study of the amount of data found."""
    if "study" in made:
        for number, sentence in enumerate(made["study"]["conclusions"]):
            yield _line("" if number else "study", sentence)


def _version(made: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    version, promotion = made.get("register"), made.get("promote")
    if version:
        yield _line("version", f"{version['model']} version {version['version']}")
    if promotion:
        yield _line("promotion", promotion["verdict"])


def _times(run: Mapping[str, Any]) -> Iterator[str]:
    """Time of each step in this run; of a reused one, what it took when it was made."""
    times = []
    several: dict[str, list[float]] = {}
    for entry in run["steps"]:
        step, _, label = entry["name"].partition("@")
        if label:
            made_in = entry.get("made_in_seconds") or entry.get("seconds")
            several.setdefault(step, []).extend([made_in] if made_in else [])
        elif entry["status"] == "cached":
            made = entry.get("made_in_seconds")
            times.append(f"{entry['name']} reused" + (f" ({duration(made)} then)" if made else ""))
        elif entry.get("seconds") is not None:
            times.append(f"{entry['name']} {duration(entry['seconds'])}")
    times += [f"{step} {len(each)} times {duration(sum(each) / len(each))}" for step, each in several.items() if each]
    if times:
        yield _line("time", f"{duration(run['seconds'])}: {', '.join(times)}")
