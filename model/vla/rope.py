"""Rotary positions: 1-D for the two streams (SPEC_VLA section 1.4), 2-D for the vision tower (section 1.8)."""

import torch
from torch import Tensor

THETA = 10_000.0  # both; the released policy does not use Qwen's 1e6 or its mrope


def rotary_table(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [..., head_dim / 2] in fp32 for integer positions [...]."""
    half = head_dim // 2
    frequency = THETA ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angle = positions.float().unsqueeze(-1) * frequency
    return angle.cos(), angle.sin()


def vision_table(rows: Tensor, columns: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [P, head_dim / 2] of patch coordinates: row frequencies, then column frequencies."""
    quarter = head_dim // 4
    frequency = THETA ** (-torch.arange(quarter, device=rows.device, dtype=torch.float32) / quarter)
    angle = torch.cat([rows.float()[:, None] * frequency, columns.float()[:, None] * frequency], dim=-1)
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Half-split rotation of x [..., L, H, head_dim] by tables [..., L, head_dim / 2]."""
    cos, sin = table[0].unsqueeze(-2).to(x.dtype), table[1].unsqueeze(-2).to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
