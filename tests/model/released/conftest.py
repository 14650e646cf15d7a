"""A small policy with exactly the released tensors, as a folder of ours."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.bundle import seeded_policy
from model.config import PolicyConfig, preset


def released_debug() -> PolicyConfig:
    """`debug` without what the released model does not have."""
    base = preset("debug")
    return replace(base, goal=None, vision=replace(base.vision, learned_positions=False))


def write_policy(folder: Path, config: PolicyConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Writes a policy's folder; returns its state."""
    folder.mkdir()
    state = seeded_policy(config, seed).state_dict()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"schema_version": 1, "policy": config.to_dict()}))
    return state


@pytest.fixture
def config() -> PolicyConfig:
    return released_debug()


@pytest.fixture
def policy(tmp_path: Path, config: PolicyConfig) -> Path:
    write_policy(tmp_path / "policy", config)
    return tmp_path / "policy"
