"""The figures of a step as DVC compares them: `metrics/<step>.json`, and `plots/*.csv` to draw.

Small files that git keeps, so that `dvc metrics diff` and `dvc plots diff` work between any two commits and fetch
nothing. What depends on the speed of a machine is left out: equal executions have equal files.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components import records, state
from components.artifacts import Artifact

METRICS, PLOTS = Path("metrics"), Path("plots")
# The steps whose summaries are figures of a result, and the plots of each.
STEPS_WITH_METRICS = ("validate", "extract_depth_tokens", "pack", "pretrain", "finetune", "evaluate")
PLOTS_OF = {
    "pretrain": ("pretrain.csv",),
    "finetune": ("finetune.csv",),
    "evaluate": ("closed_loop.csv", "open_loop.csv"),
}
_SPEED = {"seconds", "samples_per_second", "draws_per_second", "data_wait"}
_LOG = "metrics.jsonl"


def figure_files(step: str) -> list[str]:
    """The files that `write_figures` writes for a step, relative to the checkout."""
    metrics = [(METRICS / f"{step}.json").as_posix()] if step in STEPS_WITH_METRICS else []
    return [*metrics, *((PLOTS / name).as_posix() for name in PLOTS_OF.get(step, ()))]


def write_figures(artifact: Artifact, root: Path) -> list[str]:
    """Writes the figures of a finished step below `root`; returns their paths, relative to it."""
    if artifact.step in STEPS_WITH_METRICS:
        state.write_json(root / METRICS / f"{artifact.step}.json", numbers(artifact.summary))
    for name in PLOTS_OF.get(artifact.step, ()):
        content = _table(list(_rows(artifact, name)))
        state.write_atomically(root / PLOTS / name, content.encode())
    return figure_files(artifact.step)


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is a number in a summary, nested as it is there; what tells of speed is left out."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner = numbers(value)
            if inner:
                kept[name] = inner
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in _SPEED:
            kept[name] = value
    return kept


def _rows(artifact: Artifact, plot: str) -> Iterator[Mapping[str, Any]]:
    if plot == "closed_loop.csv":
        for condition, scores in (artifact.summary.get("closed_loop") or {}).items():
            yield {"condition": condition, **{name: scores[name] for name in ("sr", "sr_low", "sr_high")}}
    elif plot == "open_loop.csv":
        for steps, error in (artifact.summary.get("open_loop_error") or {}).items():
            yield {"steps": int(steps), "error": error}
    else:
        log = records.fetch(artifact) / _LOG
        yield from (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
