"""Two results side by side: parameters, code, bytes of each step, figures, and what they ran on.

Equal bytes are told by digest. Figures of the policy are told by their 95% intervals: two rates agree when each lies in
the other's interval. Errors on held-out episodes have no interval; they agree within 5%.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from components.steps import STEPS, Step
from model.errors import UserError

BITWISE, TOLERANCE, DIFFERENT = "bitwise equal", "within tolerance", "different"
OPEN_LOOP_TOLERANCE = 0.05
_HORIZON = "open_loop_error."
# Figures that decide; the others (baselines, differences) are shown.
_DECISIVE = ("closed_loop.policy.", "closed_loop.other_task.", _HORIZON)
_INTERVAL = ("_low", "_high")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What is compared: a run, a release, or a reproduction.

    Attributes:
        name: for people.
        commit: of the code; None where it is not known.
        dirty: the code had changes that are in no commit.
        parameters: step -> its parameters.
        digests: step -> digest of its artefact.
        figures: of the evaluation, flat: "closed_loop.policy.sr" -> 0.9.
        environment: hardware, packages and threads.
        bundle: digest of the exported policy; None where there is none.
    """

    name: str
    commit: str | None
    dirty: bool
    parameters: Mapping[str, Mapping[str, Any]]
    digests: Mapping[str, str]
    figures: Mapping[str, float]
    environment: Mapping[str, Any]
    bundle: str | None = None


def of_run(run: Mapping[str, Any]) -> Result:
    finished = {entry["name"]: entry for entry in run["steps"] if entry.get("digest")}
    if not finished:
        raise UserError(f"run {run['id']} finished no step: there is nothing to compare")
    return _result(
        run["id"],
        {entry["name"]: entry["parameters"] for entry in run["steps"]},
        {step: entry["digest"] for step, entry in finished.items()},
        {step: entry["summary"] for step, entry in finished.items()},
        run["provenance"],
        run["threads"],
    )


def of_release(name: str, record: Mapping[str, Any]) -> Result:
    steps = record["steps"]
    return _result(
        name,
        {step: values["parameters"] for step, values in steps.items()},
        {step: values["digest"] for step, values in steps.items()},
        {step: values["summary"] for step, values in steps.items()},
        record["provenance"],
        record["threads"],
    )


def of_version(name: str, bundle: str, made: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any]) -> Result:
    """Of a registered version, from what is known of the artefacts behind it (step -> its digest, summary and more) and
    the provenance beside its bundle."""
    result = _result(
        name,
        {step: record["parameters"].get(step, {}) for step in made},
        {step: entry["digest"] for step, entry in made.items()},
        {step: entry["summary"] for step, entry in made.items()},
        record,
        record["threads"],
    )
    return dataclasses.replace(result, bundle=bundle)


def environment_of(hardware: Mapping[str, Any], packages: Mapping[str, str], threads: int | None) -> dict[str, Any]:
    """What a result was made on. `threads` is what was computed with, whichever variables said so."""
    bare = {name: value for name, value in hardware.items() if name != "threads"}
    return {"threads": threads, "hardware": bare, "packages": packages}


def _result(
    name: str,
    parameters: Mapping[str, Mapping[str, Any]],
    digests: Mapping[str, str],
    summaries: Mapping[str, Mapping[str, Any]],
    record: Mapping[str, Any],
    threads: int | None,
) -> Result:
    return Result(
        name=name,
        commit=record["code"]["commit"],
        dirty=record["code"]["dirty"] is not None,
        parameters=parameters,
        digests=digests,
        figures=figures_of(summaries),
        environment=environment_of(record["hardware"], record["packages"], threads),
        bundle=summaries.get("finetune", {}).get("bundle_digest"),
    )


def compare(first: Result, second: Result) -> dict[str, Any]:
    """The comparison, JSON-able; `outcome` is over the steps that both have and that change nothing outside.

    The outcome is "bitwise equal" when every such step made the same bytes, "within tolerance" when the decisive
    figures agree although bytes differ, and "different" otherwise.
    """
    shared = [step for step in first.digests if step in second.digests]
    steps = {step: first.digests[step] == second.digests[step] for step in shared}
    decisive = [step for step in shared if not step_of(step).effects]
    figures = {
        name: {"first": first.figures[name], "second": second.figures[name], "agree": _agree(name, first, second)}
        for name in first.figures
        if name in second.figures and not name.endswith(_INTERVAL)
    }
    verdicts = [figure["agree"] for figure in figures.values() if figure["agree"] is not None]
    weights = first.bundle == second.bundle if first.bundle and second.bundle else None
    if (decisive or weights) and all(steps[step] for step in decisive) and weights is not False:
        outcome = BITWISE
    elif verdicts and all(verdicts):
        outcome = TOLERANCE
    else:
        outcome = DIFFERENT
    return {
        "schema_version": 2,
        "first": first.name,
        "second": second.name,
        "outcome": outcome,
        "code": {"first": _code(first), "second": _code(second)},
        "parameters": dict(_differences(_only(first.parameters, shared), _only(second.parameters, shared))),
        "weights": {"first": first.bundle, "second": second.bundle, "equal": weights},
        "steps": steps,
        "not_in_both": sorted({*first.digests} ^ {*second.digests}),
        "figures": figures,
        "figures_in_one": _figures_in_one(first, second),
        "environment": dict(_differences(first.environment, second.environment)),
    }


def comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """The comparison for a person."""
    yield f"{comparison['first']} and {comparison['second']}: {comparison['outcome']}"
    code = comparison["code"]
    yield f"  code         {code['first']}" + ("" if code["first"] == code["second"] else f" -> {code['second']}")
    for name, (one, other) in comparison["parameters"].items():
        yield f"  parameter    {name}: {one} -> {other}"
    for step, equal in comparison["steps"].items():
        effect = ", which it may: it names what is in the registry" if not equal and step_of(step).effects else ""
        yield f"  {step:20} {'equal bytes' if equal else 'other bytes' + effect}"
    weights = comparison["weights"]
    if weights["equal"] is not None:
        digests = f"{weights['first'][:12]}" + ("" if weights["equal"] else f" and {weights['second'][:12]}")
        yield f"  weights      {'equal' if weights['equal'] else 'other'} bytes, bundle {digests}"
    if comparison["not_in_both"]:
        yield f"  only in one: {', '.join(comparison['not_in_both'])}"
    for name, figure in sorted(comparison["figures"].items(), key=lambda item: _horizon(item[0])):
        verdict = {True: "agree", False: "differ", None: ""}[figure["agree"]]
        if figure["first"] != figure["second"] or figure["agree"] is not None:
            yield f"  {_spoken(name):40} {figure['first']:>10.4g} {figure['second']:>10.4g}  {verdict}"
    for name, figure in sorted(comparison["figures_in_one"].items(), key=lambda item: _horizon(item[0])):
        one, other = (f"{value:.4g}" if value is not None else "none" for value in figure.values())
        yield f"  {_spoken(name):40} {one:>10} {other:>10}  only in one"
    if comparison.get("differences"):
        from pipelines.versions.differences import difference_lines

        yield from difference_lines(comparison["differences"])
    for name, (one, other) in comparison["environment"].items():
        yield f"  environment  {name}: {one} -> {other}"


def step_of(task: str) -> Step:
    """The step that a run calls so; of a study, one of several executions of it."""
    return STEPS[task.partition("@")[0]]


def _only(parameters: Mapping[str, Any], steps: list[str]) -> dict[str, Any]:
    return {step: parameters[step] for step in steps}


def _figures_in_one(first: Result, second: Result) -> dict[str, dict[str, float | None]]:
    """Deciding figures that one of both lacks: a horizon of open loop, because its chunks are shorter, or a task."""
    names = [*first.figures, *(name for name in second.figures if name not in first.figures)]
    return {
        name: {"first": first.figures.get(name), "second": second.figures.get(name)}
        for name in names
        if name.startswith(_DECISIVE)
        and not name.endswith(_INTERVAL)
        and (name in first.figures) != (name in second.figures)
    }


def _horizon(name: str) -> int:
    """Orders horizons by their steps behind all other figures, whose order stays."""
    return int(name.removeprefix(_HORIZON)) if name.startswith(_HORIZON) else 0


def _spoken(name: str) -> str:
    return f"open-loop error, {_horizon(name)} steps ahead" if name.startswith(_HORIZON) else name


def _code(result: Result) -> str:
    return (result.commit or "unknown")[:12] + (" with changes" if result.dirty else "")


def figures_of(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of the evaluation's summary, by dotted name."""
    return dict(_flat(summaries.get("evaluate", {})))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _agree(name: str, first: Result, second: Result) -> bool | None:
    """Whether a figure agrees; None where it does not decide."""
    if not name.startswith(_DECISIVE):
        return None
    one, other = first.figures[name], second.figures[name]
    if name.startswith(_HORIZON):
        return abs(one - other) <= OPEN_LOOP_TOLERANCE * max(abs(one), abs(other))
    bounds = [(result.figures.get(f"{name}_low"), result.figures.get(f"{name}_high")) for result in (first, second)]
    (low_one, high_one), (low_other, high_other) = bounds
    if low_one is None or high_one is None or low_other is None or high_other is None:
        return None
    return low_other <= one <= high_other and low_one <= other <= high_one


def _differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """(dotted name, the two values) of everything that differs; None stands for absent."""
    for name in [*first, *(name for name in second if name not in first)]:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            yield f"{prefix}{name}", (one, other)
