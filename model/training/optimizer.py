"""AdamW, the learning-rate schedule, and an exponential moving average of the weights."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def build_optimizer(weights: Iterable[Tensor], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW, betas (0.9, 0.95) as in the released training; matrices decay, vectors and norms do not."""
    weights = list(weights)
    matrices = [w for w in weights if w.ndim >= 2]
    vectors = [w for w in weights if w.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to `peak`, then a cosine to zero at `steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


class MovingAverage:
    """EMA of all fp32 weights: what is exported. `decay` is reached gradually, so early steps do not weigh for ever."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [weights[n] for n in self.weights], 1 - decay)
