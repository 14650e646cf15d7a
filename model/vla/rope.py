"""Rotary positions: 1-D for the two streams (SPEC_VLA section 1.4), 2-D for the vision tower (section 1.8)."""

import torch
from torch import Tensor

THETA = 10_000.0  # both; the released policy does not use Qwen's 1e6 or its mrope


Table = tuple[Tensor, Tensor]  # cosine and signed sine [..., head_dim], fp32


def rotary_table(positions: Tensor, head_dim: int) -> Table:
    """Table [..., head_dim] for integer positions [...]."""
    half = head_dim // 2
    frequency = THETA ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    return _table(positions.float().unsqueeze(-1) * frequency)


def vision_table(rows: Tensor, columns: Tensor, head_dim: int) -> Table:
    """Table [P, head_dim] of patch coordinates: row frequencies, then column frequencies."""
    quarter = head_dim // 4
    frequency = THETA ** (-torch.arange(quarter, device=rows.device, dtype=torch.float32) / quarter)
    return _table(torch.cat([rows.float()[:, None] * frequency, columns.float()[:, None] * frequency], dim=-1))


def apply_rotary(x: Tensor, table: Table) -> Tensor:
    """Half-split rotation of x [..., L, H, head_dim] by tables [..., L, head_dim].

    Both halves at once: (a, b) -> (a, b) * cos + (b, a) * (-sin, sin). Half as many passes as half by half, in the
    backward too: 4.4 ms for 7.2 ms with the queries of a tower block at `small` (fp32, batch 4).
    """
    cos, sin = table[0].unsqueeze(-2).to(x.dtype), table[1].unsqueeze(-2).to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat([second, first], dim=-1), sin)


def _table(angle: Tensor) -> Table:
    """Of angles [..., head_dim / 2], for both halves; the first half's sine is negative."""
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
