"""Hindsight goal head: queries that see only images predict where the robot's own gripper next closes.

Without a loss that forces the images to be used, a small policy copies the arm's state (DESIGN section 4). The label
comes from the robot's own later record, so this trains on real data as it does in simulation. The suffix attends to
the queries, which is how the prediction conditions the actions.

The queries are a readout with weights of their own for each image position. A query that finds the object by content
attention alone has not left the plateau after 400 steps of the demo (4.5 cm error, the spread of the data); the
readout is at 2 cm after 100 steps and at 0.9 cm after 400.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import GoalConfig
from model.vla.inputs import Inputs, Targets
from model.vla.layout import Span
from model.vla.modalities.base import Loss, Modality
from model.vla.modalities.views import view_name

QUERIES = "goal queries"


class GoalHead(Modality):
    """Queries [B, G, D] from the image tokens of all views, and the goal from their final hidden states."""

    reads_hidden = True

    def __init__(self, config: GoalConfig, views: int, tokens_per_view: int, size: int):
        super().__init__()
        self.config = config
        self.views = views
        self.readout = nn.Sequential(
            nn.Linear(views * tokens_per_view * size, config.readout_size),
            nn.GELU(),
            nn.Linear(config.readout_size, config.num_queries * size),
        )
        self.predictor = nn.Sequential(
            nn.Linear(config.num_queries * size, size), nn.GELU(), nn.Linear(size, config.dimensions)
        )

    def spans(self) -> tuple[Span, ...]:
        sees = (*(view_name(i) for i in range(self.views)), QUERIES)
        return (Span(name=QUERIES, length=self.config.num_queries, sees=sees, context=False),)

    def embed(self, inputs: Inputs, earlier: Mapping[str, Tensor]) -> Tensor:
        """[B, G, D] from the vision tower's tokens [B, V * M, D]; absent views are zero."""
        return self.readout(earlier["views"].flatten(1)).unflatten(-1, (self.config.num_queries, -1))

    def valid(self, inputs: Inputs) -> Tensor:
        return torch.ones_like(inputs.image_mask[:, :1]).expand(-1, self.config.num_queries)

    def predict(self, hidden: Tensor) -> Tensor:
        """Goal [B, dimensions], normalised, from the queries' hidden states [B, G, D]."""
        return self.predictor(hidden.flatten(1))

    def loss(self, hidden: Mapping[str, Tensor], inputs: Inputs, targets: Targets) -> Loss | None:
        """Smooth L1 over the samples that have a goal; zero where none has."""
        if targets.goal is None or targets.goal_mask is None:
            return None
        predicted = self.predict(hidden["goal"]).float()
        error = F.smooth_l1_loss(predicted, targets.goal, reduction="none").mean(-1)
        mask = targets.goal_mask
        return Loss((error * mask).sum() / mask.sum().clamp_min(1), self.config.weight)
