"""A sensor whose reading is a vector (joint torques, wrist forces, tactile arrays): some tokens of context from an MLP.

Ours, not in the paper: the released policy has cameras, text and state only.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.config import SensorConfig
from model.errors import UserError
from model.vla.inputs import Inputs
from model.vla.layout import Span
from model.vla.modalities.base import Modality


class VectorSensor(Modality):
    """Tokens [B, tokens, D] from readings [B, size]."""

    def __init__(self, config: SensorConfig, size: int):
        super().__init__()
        self.config = config
        self.project = nn.Sequential(
            nn.Linear(config.size, size), nn.SiLU(), nn.Linear(size, config.num_tokens * size)
        )  # fmt: skip

    def spans(self) -> tuple[Span, ...]:
        return (Span(name=f"{self.config.name} readings", length=self.config.num_tokens),)

    def embed(self, inputs: Inputs, earlier: Mapping[str, Tensor]) -> Tensor:
        return self.project(self._reading(inputs)).unflatten(-1, (self.config.num_tokens, -1))

    def valid(self, inputs: Inputs) -> Tensor:
        ones = torch.ones_like(inputs.image_mask[:, :1])
        return ones.expand(-1, self.config.num_tokens)

    def _reading(self, inputs: Inputs) -> Tensor:
        name, size = self.config.name, self.config.size
        if name not in inputs.sensors or inputs.sensors[name].shape[-1] != size:
            given = tuple(inputs.sensors[name].shape) if name in inputs.sensors else "missing"
            raise UserError(f"sensor '{name}' is {given}, but this policy takes {size} values of it: send them all.")
        return inputs.sensors[name]
