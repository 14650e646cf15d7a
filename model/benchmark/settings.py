"""What a benchmark measures, checked before anything is built."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from model.config import PolicyConfig, preset
from model.errors import UserError, unknown_name
from model.hardware import available_cores
from model.vla.attention import choose_backend

Task = Literal["train", "infer"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Bytes a parameter that a task holds at least: weights, and for training gradients and two AdamW moments beside
# them; bf16 training adds masters to half the weights and gradients.
BYTES: dict[tuple[str, str], int] = {
    ("train", "fp32"): 16, ("train", "bf16"): 16, ("infer", "fp32"): 4, ("infer", "bf16"): 2
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. `draws` counts in training only; one inference is the prefix and the preset's Euler steps."""

    task: Task
    preset: str
    precision: str = "fp32"
    threads: int = 1
    compile: bool = False
    batch: int = 1
    draws: int = 1
    steps: int = 5
    attention: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        config = preset(self.preset)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        for name in ("batch", "draws", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        cores = available_cores()
        if not 1 <= self.threads <= cores:
            raise UserError(f"threads is {self.threads}, but this process may use {cores}: choose 1 to {cores}.")
        if choose_backend(self.attention, torch.device("cpu")) == "flex" and self.task == "train":
            raise UserError(
                "attention back end 'flex' has no backward on a CPU: choose explicit, sdpa or dense for bench train."
            )
        self._check_memory(config)

    def _check_memory(self, config: PolicyConfig) -> None:
        needed = least_weights(config) * BYTES[self.task, self.precision]
        memory = machine_memory()
        if needed > memory:
            raise UserError(
                f"bench {self.task} of {self.preset} in {self.precision} needs more than {needed / 2**30:.0f} GiB for "
                f"its weights, and this machine has {memory / 2**30:.0f}: choose a smaller preset."
            )


def least_weights(config: PolicyConfig) -> int:
    """Numbers in the matrices of the backbone and the tower, which are 70% and more of every policy.

    Not counted on a policy built on `meta`: that imports PyTorch's compiler, 81 MB that an inference does not need.
    """
    text, vision = config.text, config.vision
    heads = 2 * (text.num_heads + text.num_kv_heads) * text.head_dim
    backbone = text.num_layers * text.hidden_size * (heads + 3 * text.intermediate_size)
    tower = vision.num_layers * vision.hidden_size * (4 * vision.hidden_size + 3 * vision.intermediate_size)
    return backbone + tower + text.vocab_size * text.hidden_size


def machine_memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
