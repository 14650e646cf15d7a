"""Rotary positions: pairs (i, i + half) turned by their angle, and scores that depend on distance alone."""

import pytest
import torch
from torch import Tensor

from model.vla.rope import apply_rotary, rotary_table, vision_table

HEAD = 8


def example(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_each_pair_is_a_complex_number_turned_by_its_angle() -> None:
    positions = torch.tensor([[0, 1, 5]])
    x = example(1, 3, 2, HEAD)
    frequency = 10_000.0 ** (-torch.arange(HEAD // 2) / (HEAD // 2))
    turn = torch.polar(torch.ones(3, HEAD // 2), positions[0][:, None] * frequency)
    expected = torch.complex(*x.chunk(2, -1)) * turn[:, None]
    actual = torch.complex(*apply_rotary(x, rotary_table(positions, HEAD)).chunk(2, -1))
    torch.testing.assert_close(actual, expected)


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = example(2, 1, 1, HEAD).unbind(0)
    scores = [
        apply_rotary(q[None], rotary_table(torch.tensor([[i + 3]]), HEAD)).flatten()
        @ apply_rotary(k[None], rotary_table(torch.tensor([[i]]), HEAD)).flatten()
        for i in (0, 7, 200)
    ]
    torch.testing.assert_close(scores, [scores[0]] * 3, rtol=1e-4, atol=1e-5)


def test_the_gradient_turns_back() -> None:
    table = rotary_table(torch.tensor([[2, 9]]), HEAD)
    x = example(1, 2, 3, HEAD).requires_grad_()
    turned = apply_rotary(x, table)
    (gradient,) = torch.autograd.grad(turned, x, turned.detach())
    torch.testing.assert_close(gradient, x.detach())


def test_patches_turn_by_row_in_the_first_and_by_column_in_the_second_quarter() -> None:
    rows, columns = torch.tensor([3, 0]), torch.tensor([0, 2])
    cos, sin = (t.view(2, 2, 2, HEAD // 4) for t in vision_table(rows, columns, HEAD))  # patch, half, axis, frequency
    frequency = 10_000.0 ** (-torch.arange(HEAD // 4) / (HEAD // 4))
    for half in (0, 1):
        torch.testing.assert_close(cos[0, half, 0], (3 * frequency).cos())
        torch.testing.assert_close(cos[1, half, 1], (2 * frequency).cos())
        assert (sin[0, half, 1] == 0).all() and (sin[1, half, 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_has_the_type_of_what_is_turned(dtype: torch.dtype) -> None:
    assert apply_rotary(example(1, 2, 3, HEAD).to(dtype), rotary_table(torch.tensor([[0, 1]]), HEAD)).dtype == dtype
