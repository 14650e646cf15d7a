"""Imports weights of others as a folder of ours: `config.json`, `model.safetensors` (or shards), `import.json`.

`import.json` says what was read, by sha256, which tensors were drawn from which seed, and every warning.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from model.config import PolicyConfig, preset
from model.released.configuration import policy_config
from model.released.folder import TOKENIZER, new_folder, read_policy_config
from model.released.qwen import read_qwen
from model.released.settings import CONFIG, OWN, read_settings
from model.released.shards import SHARD_SIZE, parse_size, write_tensors
from model.released.tensors import LazyTensors, open_tensors
from model.vla.released import DEPTH_QUERIES, lacks_depth_queries, policy_state, released_state

SCHEMA_VERSION = 1
RECORD = "import.json"
RELEASED, QWEN = "released", "qwen2_5_vl"
SOURCES = (RELEASED, QWEN)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import wrote; `record` is the content of `import.json`."""

    config: PolicyConfig
    record: Mapping[str, Any]


def import_released(source: Path, target: Path, *, preset_name: str = "", seed: int = 0) -> Imported:
    """Imports a released directory, or one safetensors file with its settings beside it, bit by bit.

    Args:
        source: as released, or as `lingbot checkpoint export` wrote it.
        target: a new folder.
        preset_name: for what neither settings nor shapes tell; empty takes lingbot_vla_4b_depth.
        seed: of the depth queries where the checkpoint lacks them, as those of the released code do.

    Raises:
        UserError: see `open_tensors`, `read_settings`, `policy_config`, `policy_state`.
    """
    tensors = open_tensors(source)
    directory = source if source.is_dir() else source.parent
    own = directory / OWN
    warnings = list(tensors.warnings)
    opened = [tensors]
    facts: dict[str, Any] = {}
    if (own / CONFIG).is_file():
        config = read_policy_config(own / CONFIG)
        files = [own / CONFIG]
        if any(own.glob("*.safetensors")):
            opened.append(open_tensors(own))
    else:
        settings = read_settings(directory)
        config, odd = policy_config(settings, tensors.shapes(), preset(preset_name or "lingbot_vla_4b_depth"))
        warnings += odd
        files = list(settings.files)
        if not files:
            warnings.append(f"neither {CONFIG} nor lingbotvla_cli.yaml: sizes are those of the tensors and the preset")
        facts = {key: settings.values[key] for key in ("norm_type", "norm_stats_file") if key in settings.values}
    released = {name: tensor for part in opened for name, tensor in part.items()}
    seeds = {DEPTH_QUERIES: seed} if lacks_depth_queries(config, released) else {}
    state = policy_state(config, released, depth_seed=seed)
    if seeds:
        warnings.append(
            f"{DEPTH_QUERIES} is not in the checkpoint (the released code never saved it): drawn from N(0, 1) with "
            f"seed {seed}; the depth queries must be trained before they mean anything"
        )
    record = _record(RELEASED, directory, opened, files, config, state, seeds, warnings) | {"normalization": facts}
    return _write(target, directory, config, state, record)


def import_qwen(source: Path, target: Path, *, preset_name: str, seed: int = 0) -> Imported:
    """A policy whose backbone, vision tower and embeddings are a Qwen2.5-VL's; the rest is initialised from `seed`.

    Raises:
        UserError: see `open_tensors` and `read_qwen`; the sizes must be those of the preset.
    """
    from model.bundle import seeded_policy

    config = preset(preset_name)
    tensors = open_tensors(source)
    directory = source if source.is_dir() else source.parent
    read = read_qwen(tensors, directory, config)
    state = seeded_policy(config, seed).state_dict()
    places = released_state(config, state)
    for name, tensor in read.tensors.items():
        places[name].copy_(tensor)  # one tensor at a time, into the policy's own memory and dtype
    fresh = [name for name in places if name not in read.tensors]
    files = [directory / CONFIG] if (directory / CONFIG).is_file() else []
    warnings = [*tensors.warnings, *read.warnings]
    record = _record(QWEN, directory, [tensors], files, config, state, dict.fromkeys(fresh, seed), warnings)
    return _write(target, directory, config, state, record | {"naming": read.naming, "preset": preset_name})


def _record(
    kind: str,
    directory: Path,
    opened: Iterable[LazyTensors],
    files: Iterable[Path],
    config: PolicyConfig,
    state: Mapping[str, Tensor],
    seeds: Mapping[str, int],
    warnings: list[str],
) -> dict[str, Any]:
    read = sorted({*files, *(file for part in opened for file in part.files)})
    return {
        "schema_version": SCHEMA_VERSION,
        "source": kind,
        "files": {os.path.relpath(path, directory): _digest(path) for path in read},
        "policy": config.name,
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "seeds": dict(sorted(seeds.items())),
        "warnings": warnings,
    }


def _write(
    target: Path, directory: Path, config: PolicyConfig, state: Mapping[str, Tensor], record: dict[str, Any]
) -> Imported:
    with new_folder(target) as folder:
        write_tensors(folder, state, shard_size=parse_size(SHARD_SIZE))
        write_json(folder / CONFIG, {"schema_version": SCHEMA_VERSION, "policy": config.to_dict()})
        write_json(folder / RECORD, record)
        if (directory / TOKENIZER).is_file():
            shutil.copyfile(directory / TOKENIZER, folder / TOKENIZER)
    return Imported(config=config, record=record)


def write_json(path: Path, value: Any) -> None:
    """Sorted and indented, so that equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": path.stat().st_size}
