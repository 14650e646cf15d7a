"""Writes tensors as one safetensors file or as shards with an index, as the released checkpoints have them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from model.errors import UserError, unknown_name
from model.released.tensors import INDEX

SINGLE = "model.safetensors"
SHARD_SIZE = "5GB"  # of the released checkpoints (SPEC_VLA section 3)
PRECISIONS = ("fp32", "bf16")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str) -> int:
    """Bytes of `5GB`, `500MB`, `1GiB` or a plain number. UserError for anything else, and for 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = (found.group(2).upper() or "B") if found else ""
    size = int(float(found.group(1)) * _UNITS[unit]) if found and unit in _UNITS else 0
    if size < 1:
        raise UserError(f"shard size '{text}' is no size: write 5GB, 500MB, 1GiB or a number of bytes above 0.")
    return size


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, shard_size: int, dtype: str | None = None) -> None:
    """Writes `tensors` into `folder`, in order of their names; at most one shard is in memory at a time.

    Args:
        folder: exists.
        tensors: may be views of mapped files.
        shard_size: in bytes; a tensor larger than that has a shard of its own. All fit in one: model.safetensors.
        dtype: "fp32" or "bf16" to cast to; None keeps each tensor's own.
    """
    import torch
    from safetensors.torch import save_file

    if dtype is not None and dtype not in PRECISIONS:
        raise unknown_name("dtype", dtype, PRECISIONS)
    target = {"fp32": torch.float32, "bf16": torch.bfloat16, None: None}[dtype]
    sizes = {name: tensors[name].numel() * (target or tensors[name].dtype).itemsize for name in sorted(tensors)}
    shards = plan_shards(sizes, shard_size)
    places: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(
            {name: tensors[name].detach().to(target or tensors[name].dtype).contiguous() for name in names},
            folder / file,
            metadata={"format": "pt"},  # transformers asks for it
        )
        places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def plan_shards(sizes: Mapping[str, int], shard_size: int) -> list[list[str]]:
    """Names of each shard: in the given order, a new shard where the next tensor would exceed `shard_size`."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > shard_size:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards
