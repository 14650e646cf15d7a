"""RMSNorm, and AdaNorm: the expert's norm, modulated by the flow's time (SPEC_VLA sections 1.3, 1.7)."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis; normalised in fp32, cast back before the weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class AdaNorm(nn.Module):
    """(1 + gamma(c)) * w * rms(x) + beta(c): modulated by c, no gate. Gamma and beta start at zero."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.gamma = nn.Linear(size, size)
        self.beta = nn.Linear(size, size)
        self.eps = eps
        for linear in (self.gamma, self.beta):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def modulation(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of a condition [..., E]; constant for a fixed time, so samplers compute them once."""
        return (1 + self.gamma(condition)) * self.weight, self.beta(condition)

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """x [..., L, E] with scale and shift [..., 1, E]."""
        scale, shift = modulation
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (scale * normed + shift).to(x.dtype)
