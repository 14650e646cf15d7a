"""A policy in a folder of ours: `config.json` with the configuration, and its tensors under our names.

A bundle, the checkpoint of pretraining and what `lingbot checkpoint import` writes are such folders.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.config import PolicyConfig
from model.errors import UserError
from model.released.settings import CONFIG, read_json
from model.released.tensors import open_tensors
from model.vla.policy import Policy

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class PolicyFolder:
    """What was read: `state` holds views of the files, complete and of the right shapes."""

    path: Path
    config: PolicyConfig
    state: Mapping[str, Tensor]

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer that the embeddings were trained with, where it was kept."""
        path = self.path / TOKENIZER
        return path if path.is_file() else None


def read_policy_folder(path: Path) -> PolicyFolder:
    """Reads a policy's folder. A bundle's bytes are checked against its manifest first.

    Raises:
        UserError: no such folder, a damaged bundle, or tensors that are not those of the configuration.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        inside = sorted(p.parent.name for p in path.glob(f"*/{CONFIG}"))
        hint = f" (did you mean {path / inside[0]}?)" if inside else ""
        raise UserError(
            f"{path} has no {CONFIG}: give a bundle, a pretrained checkpoint, or what `lingbot checkpoint import` "
            f"wrote{hint}."
        )
    config = read_policy_config(path / CONFIG)
    if (path / "manifest.json").is_file():
        from model.bundle import verify_bundle

        verify_bundle(path)
    if (path / "model.safetensors").is_file():  # a bundle also holds golden.safetensors, which is no weight
        state = dict(open_tensors(path / "model.safetensors"))
    else:
        state = dict(open_tensors(path))
    check_state(path, config, {name: tuple(tensor.shape) for name, tensor in state.items()})
    return PolicyFolder(path=path, config=config, state=state)


def read_policy_config(path: Path) -> PolicyConfig:
    """The configuration in a `config.json` of ours. UserError when it is another's, or of another version."""
    values = read_json(path)
    if not isinstance(values.get("policy"), dict):
        raise UserError(
            f"{path} has no 'policy': a released or Qwen2.5-VL directory goes through `lingbot checkpoint import "
            f"{path.parent} TARGET` first."
        )
    return PolicyConfig.from_dict(values["policy"])


def check_state(path: Path, config: PolicyConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """UserError that lists each tensor which is missing, unknown or misshaped for this configuration."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in Policy(config).state_dict().items()}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - shapes.keys())]
    problems += [f"{name} is unknown" for name in sorted(shapes.keys() - wanted.keys())]
    problems += [
        f"{name} has shape {shapes[name]}, not {wanted[name]}"
        for name in sorted(wanted.keys() & shapes.keys())
        if shapes[name] != wanted[name]
    ]
    if problems:
        raise UserError(
            f"the weights of {path} are not those of its {CONFIG}, nothing was loaded: {'; '.join(problems)}. "
            f"Export or import it again with this version."
        )


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` when all is written; a failure leaves nothing behind.

    Raises:
        UserError: `target` exists and is not an empty folder.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder: give a new path.")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
