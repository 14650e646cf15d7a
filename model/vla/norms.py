"""RMSNorm, and AdaNorm: the expert's norm, modulated by the flow's time (SPEC_VLA sections 1.3, 1.7)."""

from typing import Any

import torch
from torch import Tensor, nn


class _Normalize(torch.autograd.Function):
    """weight * x / rms(x), which keeps x and one number a row for the backward.

    Autograd's own keeps three copies of x, two of them in fp32, and passes over them twice as often: with it a bf16
    step at `small` needs 106 MiB more, and a norm takes 1.4 to 1.8 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x32 = x.float()
        rms = torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, rms)
        return (x32 * rms).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, rms = ctx.saved_tensors
        gradient, normed = gradients[0].float(), x.float() * rms
        product = gradient * normed
        of_weight = product.flatten(0, -2).sum(0)
        along = (product @ weight.float()).unsqueeze(-1) / x.shape[-1]
        of_x = (gradient * weight).addcmul_(normed, along, value=-1).mul_(rms)
        return of_x.to(x.dtype), of_weight.to(weight.dtype), None


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis; normalised in fp32, cast back before the weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = _Normalize.apply(x, self.weight, self.eps)
        return normed


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
