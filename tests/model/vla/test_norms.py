"""RMSNorm's own backward equals autograd's of the plain formula, and it keeps less."""

import pytest
import torch
from torch import Tensor

from model.vla.norms import RMSNorm

EPS = 1e-6


def plain(x: Tensor, weight: Tensor) -> Tensor:
    x32 = x.float()
    return weight * (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


def example(dtype: torch.dtype) -> tuple[RMSNorm, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(48, EPS)
    norm.weight.data = torch.randn(48, generator=generator).to(dtype)
    x, gradient = (torch.randn(3, 5, 48, generator=generator).to(dtype) for _ in range(2))
    return norm, (3 * x).requires_grad_(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_those_of_the_plain_formula_bitwise(dtype: torch.dtype) -> None:
    norm, x, _ = example(dtype)
    assert torch.equal(norm(x), plain(x, norm.weight))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_gradients_are_autograds_of_the_plain_formula(dtype: torch.dtype, tolerance: float) -> None:
    """In bf16 autograd rounds between its steps, so the plain formula's gradients are taken in fp32."""
    norm, x, gradient = example(dtype)
    weight32, x32 = norm.weight.detach().float().requires_grad_(), x.detach().float().requires_grad_()
    expected = torch.autograd.grad(plain(x32, weight32), [x32, weight32], gradient.float())
    actual = torch.autograd.grad(norm(x), [x, norm.weight], gradient)
    for mine, autograds in zip(actual, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine.float() - autograds).abs().max() < tolerance * autograds.abs().max()


def test_the_backward_keeps_one_copy_of_the_input() -> None:
    norm, x, _ = example(torch.bfloat16)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        norm(x)
    assert sum(t.numel() * t.element_size() for t in kept if t.numel() >= x.numel()) == x.numel() * 2
