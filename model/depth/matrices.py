"""Layers that multiply matrices in the dtype of their weights, and those that stay in fp32.

The teacher ran under bf16 autocast on CUDA: matrices and convolutions in bf16; norms, upsampling and the final sum in
fp32; everything else in the dtype that type promotion gives (SPEC_DEPTH section 3.10). Here that order is explicit: the
weights of a bf16 encoder are cast once instead of at every call. In fp32 every cast is the identity.
"""

import copy
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import unknown_name

Precision = Literal["fp32", "bf16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
Network = TypeVar("Network", bound=nn.Module)


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x.to(self.weight.dtype), output_size)


class GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


class Upsample(nn.Module):
    """Twice as fine; mode nearest or bilinear."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x.float(), scale_factor=2, mode=self.mode)


def at_precision(network: Network, precision: str) -> Network:
    """The network itself for fp32; for bf16 a copy whose matrices are bf16. UserError for another name."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision == "fp32":
        return network
    twin = copy.deepcopy(network)
    for module in twin.modules():
        if isinstance(module, (Linear, Conv2d, ConvTranspose2d)):
            module.to(PRECISIONS[precision])
    return twin
