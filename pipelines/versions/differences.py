"""What differs between two results beside digests: episodes, quarantine, statistics, code, and trials.

Each function reads the few files that it needs, and only where the artefacts differ.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components import state
from components.adapters.versioning import Git
from model.errors import UserError
from pipelines.shape import SOURCES
from pipelines.versions.comparison import Result
from pipelines.versions.contents import Contents

# What of a dataset says which episodes it has: metadata and tables, no pictures.
_DATASET = ("meta", "data")
# Columns that say where an episode lies, not what it is.
_PLACES = ("index", "episode_index", "task_index")
_LISTED = 20  # entries of a list that are named; the count says how many there are
_MAX_COMMITS = 20
# A drift below these is not worth a line: of the mean in standard deviations, of the spread as a factor.
_SHIFT, _SPREAD = 0.05, 0.05


def differences(first: Result, second: Result, one: Contents, other: Contents) -> dict[str, Any]:
    """{data, code, trials}, JSON-able: the sections that a comparison has beside digests, parameters and figures."""
    return {
        "data": data_differences(first, second, one, other),
        "code": code_differences(first, second),
        "trials": trial_differences(first, second, one, other),
    }


def data_differences(first: Result, second: Result, one: Contents, other: Contents) -> dict[str, Any]:
    """Episodes added and removed (by what they hold, whatever their number), quarantine, drift of the statistics."""
    found: dict[str, Any] = {"episodes": None, "quarantine": None, "statistics": None}
    if _dataset(first) and _dataset(second) and _digest(first, SOURCES) != _digest(second, SOURCES):
        sets = [
            contents.folder(_dataset(result) or "", _DATASET) for result, contents in ((first, one), (second, other))
        ]
        if all(sets):
            found["episodes"] = episode_differences(*(episodes(folder) for folder in sets if folder))
    if _differ("validate", first, second):
        lists = [contents.folder("validate", ("quarantine.yaml",)) for contents in (one, other)]
        if all(lists):
            found["quarantine"] = quarantine_differences(*(folder for folder in lists if folder))
    if _differ("pack", first, second):
        tables = [contents.folder("pack", ("statistics.json", "meta.json")) for contents in (one, other)]
        if all(tables):
            found["statistics"] = statistics_drift(*(folder for folder in tables if folder))
    return found


def episodes(dataset: Path) -> list[dict[str, Any]]:
    """Each episode of a LeRobot dataset: number, frames, instruction, and the sha256 over its columns.

    Raises:
        UserError: it is no LeRobot dataset.
    """
    from model.data.lerobot import LeRobotDataset

    opened = LeRobotDataset.open(dataset)
    return [
        {
            "episode": episode.index,
            "frames": episode.length,
            "instruction": episode.instruction,
            "sha256": _episode_digest(opened.table(episode.index) if episode.table else None, episode.instruction),
        }
        for episode in opened.episodes
    ]


def episode_differences(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which episodes only one of two datasets holds. Equal episodes under other numbers are the same episode."""
    counts = [Counter(episode["sha256"] for episode in side) for side in (first, second)]
    added, removed = _only(second, counts[1] - counts[0]), _only(first, counts[0] - counts[1])
    return {
        "first": len(first),
        "second": len(second),
        "shared": sum((counts[0] & counts[1]).values()),
        "added": _listed(added),
        "removed": _listed(removed),
    }


def quarantine_differences(first: Path, second: Path) -> dict[str, Any]:
    """Episodes that only one verdict takes out, with its rules."""
    from model.data.quarantine import QUARANTINE, read_entries

    rules: list[dict[int, list[str]]] = []
    for folder in (first, second):
        taken: dict[int, list[str]] = {}
        for entry in read_entries(folder / QUARANTINE, ("episode", "rule", "evidence")):
            taken.setdefault(entry["episode"], []).append(entry["rule"])
        rules.append(taken)
    before, after = rules
    added, released = sorted({*after} - {*before}), sorted({*before} - {*after})
    return {
        "first": len(before),
        "second": len(after),
        "added": _listed([{"episode": episode, "rules": after[episode]} for episode in added]),
        "released": _listed([{"episode": episode, "rules": before[episode]} for episode in released]),
    }


def statistics_drift(first: Path, second: Path) -> list[dict[str, Any]]:
    """How far the normalisation statistics moved, largest first: a row a dimension that moved.

    `shift` is that of the mean, in standard deviations of the first; `spread` is the factor between the deviations.
    """
    tables = [json.loads((folder / "statistics.json").read_text()) for folder in (first, second)]
    meta = json.loads((first / "meta.json").read_text())
    names = {"state": meta["state_names"], "action": meta["action_names"]}
    rows = []
    for part in tables[0]:
        before, after = tables[0][part], tables[1].get(part)
        if after is None or len(after["mean"]) != len(before["mean"]):
            rows.append({"part": part, "dimension": None, "shift": None, "spread": None})
            continue
        for index, (mean, std) in enumerate(zip(before["mean"], before["std"], strict=True)):
            scale = max(std, 1e-6)  # a joint that never moves has no spread to measure a shift in
            shift, spread = (after["mean"][index] - mean) / scale, max(after["std"][index], 1e-6) / scale
            if abs(shift) > _SHIFT or abs(spread - 1) > _SPREAD:
                name = names.get(part, [])[index] if index < len(names.get(part, [])) else str(index)
                rows.append({"part": part, "dimension": name, "shift": round(shift, 4), "spread": round(spread, 4)})
    return sorted(rows, key=lambda row: -(float("inf") if row["shift"] is None else abs(row["shift"])))


def code_differences(first: Result, second: Result) -> dict[str, Any] | None:
    """Commits and files between the two commits, where both are in this repository; None where they are equal."""
    git = Git(state.checkout())
    if first.commit == second.commit or not first.commit or not second.commit or not git.is_checkout:
        return None
    if git.resolve(first.commit) is None or git.resolve(second.commit) is None:
        return None
    span = (first.commit, second.commit)
    log = git.run("log", "--format=%h %s", f"--max-count={_MAX_COMMITS + 1}", f"{span[0]}..{span[1]}").splitlines()
    files = git.run("diff", "--stat=120", "--stat-count=40", *span, "--", "model", "components", "pipelines", "*.yaml")
    return {"commits": log[:_MAX_COMMITS], "more_commits": len(log) > _MAX_COMMITS, "files": files.splitlines()}


def trial_differences(first: Result, second: Result, one: Contents, other: Contents) -> dict[str, Any] | None:
    """The second policy's success minus the first's: pair by pair where both tried the same scenes, else as samples."""
    if not _differ("evaluate", first, second):
        return None
    folders = [contents.folder("evaluate", ("trials.jsonl",)) for contents in (one, other)]
    if not all(folders):
        return None
    paths = [folder / "trials.jsonl" for folder in folders if folder]
    return compare_trials(*paths) if all(path.is_file() for path in paths) else None


def compare_trials(first: Path, second: Path) -> dict[str, Any]:
    """Condition -> the difference, with its 95% interval, or the reason why there is none."""
    from model.evaluation.comparison import can_be_paired, compare, compare_unpaired
    from model.evaluation.records import group, read_trials

    before, after = group(read_trials(first)), group(read_trials(second))
    found: dict[str, Any] = {}
    for condition in after:
        if condition not in before:
            continue
        pair = after[condition], before[condition]
        try:
            if can_be_paired(*pair) and _scenes(pair[0]) == _scenes(pair[1]):
                found[condition] = {"paired": True, **compare(*pair).to_json()}
            else:
                found[condition] = {"paired": False, **compare_unpaired(*pair).to_json()}
        except UserError as error:
            found[condition] = {"reason": str(error)}
    return found


def _scenes(trials: Sequence[Any]) -> set[tuple[Any, ...]]:
    return {(trial.robot, trial.task, trial.number) for trial in trials}


def _dataset(result: Result) -> str | None:
    return next((step for step in SOURCES if step in result.digests), None)


def _digest(result: Result, steps: Sequence[str]) -> str | None:
    return next((result.digests[step] for step in steps if step in result.digests), None)


def _differ(step: str, first: Result, second: Result) -> bool:
    return step in first.digests and step in second.digests and first.digests[step] != second.digests[step]


def _only(side: Sequence[Mapping[str, Any]], surplus: Counter[str]) -> list[dict[str, Any]]:
    left, found = surplus.copy(), []
    for episode in side:
        if left[episode["sha256"]] > 0:
            left[episode["sha256"]] -= 1
            found.append({key: episode[key] for key in ("episode", "frames", "instruction")})
    return found


def _listed(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"count": len(entries), "listed": [dict(entry) for entry in entries[:_LISTED]]}


def _episode_digest(table: Any, instruction: str) -> str:
    import pyarrow as pa

    digest = hashlib.sha256(instruction.encode())
    if table is not None:
        kept = table.select(sorted(name for name in table.column_names if name not in _PLACES))
        sink = pa.BufferOutputStream()
        # A slice of a longer table carries offsets; rows that are taken out of it do not.
        bare = kept.take(pa.array(range(kept.num_rows))).combine_chunks().replace_schema_metadata(None)
        with pa.ipc.new_stream(sink, bare.schema) as writer:
            writer.write_table(bare)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The differences for a person."""
    yield from _data_lines(found["data"])
    for condition, result in (found["trials"] or {}).items():
        if "reason" in result:
            yield f"  trials       {condition}: {result['reason']}"
            continue
        how = "pairs" if result["paired"] else "trials on other scenes"
        count = result["trials"] if result["paired"] else result["trials_second"]
        yield (
            f"  trials       {condition}: {100 * result['difference']:+.0f} points ({100 * result['low']:+.0f} to "
            f"{100 * result['high']:+.0f}) over {count} {how}"
        )
    code = found["code"]
    if code:
        for commit in code["commits"]:
            yield f"  commit       {commit}"
        if code["more_commits"]:
            yield "  commit       and more"
        if code["files"]:
            yield f"  files        {code['files'][-1].strip()}"


def _data_lines(data: Mapping[str, Any]) -> Iterator[str]:
    held = data["episodes"]
    if held:
        yield f"  episodes     {held['first']} -> {held['second']}, {held['shared']} in both"
        for sign, name in (("+", "added"), ("-", "removed")):
            for entry in held[name]["listed"]:
                yield f"    {sign} {entry['episode']}: {entry['frames']} frames, {entry['instruction']}"
            yield from _more(held[name])
    taken = data["quarantine"]
    if taken:
        yield f"  quarantine   {taken['first']} -> {taken['second']} episodes"
        for sign, name in (("+", "added"), ("-", "released")):
            for entry in taken[name]["listed"]:
                yield f"    {sign} {entry['episode']}: {', '.join(entry['rules'])}"
            yield from _more(taken[name])
    moved = data["statistics"]
    if moved is not None:
        yield f"  statistics   {len(moved)} dimensions moved"
        for row in moved[:_LISTED]:
            where = f"{row['part']} {row['dimension']}" if row["dimension"] else row["part"]
            moves = row["shift"] is not None
            how = f"mean {row['shift']:+.3f} std, spread x{row['spread']:.3f}" if moves else "of another width"
            yield f"    {where}: {how}"


def _more(listed: Mapping[str, Any]) -> Iterator[str]:
    if listed["count"] > len(listed["listed"]):
        yield f"      and {listed['count'] - len(listed['listed'])} more"
