"""Hindsight goal head: queries that see only images predict where the robot's own gripper next closes.

Without a loss that forces the images to be used, a small policy copies the arm's state (DESIGN section 4). The label
comes from the robot's own later record, so this trains on real data as it does in simulation. The suffix attends to
the queries, which is how the prediction conditions the actions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import GoalConfig


class GoalHead(nn.Module):
    def __init__(self, config: GoalConfig, size: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.num_queries, size))
        self.predictor = nn.Sequential(
            nn.Linear(config.num_queries * size, size), nn.GELU(), nn.Linear(size, config.dimensions)
        )

    def predict(self, hidden: Tensor) -> Tensor:
        """Goal [B, dimensions], normalised, from the queries' hidden states [B, G, D]."""
        return self.predictor(hidden.flatten(1))

    def loss(self, predicted: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        """Smooth L1 over the samples that have a goal; zero where none has."""
        error = F.smooth_l1_loss(predicted, goal, reduction="none").mean(-1)
        return (error * mask).sum() / mask.sum().clamp_min(1)
