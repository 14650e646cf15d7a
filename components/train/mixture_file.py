"""The file that `pretrain.mixture` names: further packed sets that a pretraining learns from, and their weights.

    weight: 2                           # of the run's own set; 1 when left out
    sets:
      - run: 20261122-142301-9f3c07     # a run here that packed another dataset; its depth tokens come with it
        weight: 1
      - packed: /data/g1/packed         # or what `pack` wrote, and what `extract_depth_tokens` wrote beside it;
        tokens: /data/g1/tokens         #   without tokens its samples have no depth loss
        weight: 1

Relative paths are relative to the file. What lies there counts in the fingerprint of the step, not where it lies.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import records, run_records, state
from components.artifacts import digest_of, hash_folder
from model.errors import UserError, unknown_name
from model.yaml_files import read_yaml

OWN, SETS = "weight", "sets"
ENTRY = ("run", "packed", "tokens", "weight")


@dataclass(frozen=True, kw_only=True)
class FurtherSet:
    """One entry: folders of packed frames and of depth tokens (None: there are none), and its weight."""

    packed: Path
    tokens: Path | None
    weight: float


@dataclass(frozen=True, kw_only=True)
class MixtureFile:
    """The whole file. `own_weight` is that of the run's own set."""

    own_weight: float
    sets: tuple[FurtherSet, ...]


def read_mixture(path: str | Path) -> MixtureFile:
    """Reads and checks the file; runs are resolved to the folders of their steps, whose bytes are checked.

    Raises:
        UserError: the file is missing or wrong, or names a run or a folder that is not there.
    """
    file = Path(path)
    values = read_yaml(file, f"the mixture {file}")
    if not isinstance(values, dict) or not isinstance(values.get(SETS), list) or not values[SETS]:
        raise UserError(f"the mixture {file} lists no sets: write 'sets:' with an entry (run or packed, weight) each.")
    for key in values:
        if key not in (OWN, SETS):
            raise unknown_name(f"key of the mixture {file}", str(key), (OWN, SETS))
    own = _weight(f"the mixture {file}", values.get(OWN, 1.0))
    sets = tuple(_entry(file, number, entry) for number, entry in enumerate(values[SETS]))
    return MixtureFile(own_weight=own, sets=sets)


def digest(name: str, value: str) -> str:
    """What a mixture is, for fingerprints: weights and the bytes of every set, wherever they lie."""
    mixture = read_mixture(value)
    identity: list[Any] = [mixture.own_weight]
    for one in mixture.sets:
        tokens = digest_of(hash_folder(one.tokens)) if one.tokens else None
        identity.append([one.weight, digest_of(hash_folder(one.packed)), tokens])
    return hashlib.sha256(state.canonical_json(identity)).hexdigest()


def _entry(file: Path, number: int, entry: Any) -> FurtherSet:
    where = f"set {number + 1} of the mixture {file}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r}: it must have 'run' or 'packed', and 'weight'.")
    for key in entry:
        if key not in ENTRY:
            raise unknown_name(f"key of {where}", str(key), ENTRY)
    weight = _weight(where, entry.get("weight"))
    if "run" in entry:
        if "packed" in entry or "tokens" in entry:
            raise UserError(f"{where} gives a run and folders: leave out 'packed' and 'tokens', the run has its own.")
        packed, tokens = (_of_run(where, str(entry["run"]), step) for step in ("pack", "extract_depth_tokens"))
        return FurtherSet(packed=packed, tokens=tokens, weight=weight)
    if "packed" not in entry:
        raise UserError(f"{where} names no data: give 'run', or 'packed' (and 'tokens').")
    tokens_folder = _folder(where, file, "tokens", entry) if entry.get("tokens") else None
    return FurtherSet(packed=_folder(where, file, "packed", entry), tokens=tokens_folder, weight=weight)


def _weight(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"{where} has weight {value!r}: it must be a number above 0.")
    return float(value)


def _folder(where: str, file: Path, key: str, entry: Mapping[str, Any]) -> Path:
    folder = (file.parent / str(entry[key])).absolute()
    if not folder.is_dir():
        raise UserError(f"{where}: there is no folder '{entry[key]}' ({key}); give what the step wrote.")
    return folder


def _of_run(where: str, run_id: str, step: str) -> Path:
    """The folder of what a step of a run made, its bytes checked."""
    known = run_records.known(run_records.RUN)
    if run_id not in known:
        raise unknown_name(f"run in {where}", run_id, known[-20:])
    record = run_records.read(run_id, run_records.RUN, {"steps": run_records.LIST})
    finished = {entry["name"]: entry for entry in record["steps"] if entry["status"] in ("done", "cached")}
    fingerprint = finished.get(step, {}).get("fingerprint")
    artifact = records.load_artifact(step, fingerprint) if fingerprint else None
    if artifact is None:
        raise UserError(f"{where}: run {run_id} has not finished '{step}'; finish it, or give folders.")
    folder = records.fetch(artifact)
    faults = records.verify(artifact)
    if faults:
        raise UserError(f"{where}: what '{step}' of run {run_id} made was changed: {faults[0]}; run it again.")
    return folder
