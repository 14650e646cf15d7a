"""DINOv2 transformer blocks, with the official parameter names.

B batch, L tokens, D width, H heads, K head width. Source: SPEC_DEPTH section 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.depth.config import BackboneConfig
from model.depth.matrices import Conv2d, Linear

EPS = 1e-6


class Attention(nn.Module):
    """Fused-qkv self-attention without q/k norm or rotary embedding."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x_BLD: Tensor, *, queries: int | None = None, mask_B11L: Tensor | None = None) -> Tensor:
        """Output of the first `queries` tokens (all when None) over the keys that `mask_B11L` allows."""
        dim = x_BLD.shape[-1]
        x_BLD = x_BLD.to(self.qkv.weight.dtype)
        if queries is None:
            q, k, v = self.qkv(x_BLD).split(dim, -1)
        else:
            q = F.linear(x_BLD[:, :queries], self.qkv.weight[:dim], self.qkv.bias[:dim])
            k, v = F.linear(x_BLD, self.qkv.weight[dim:], self.qkv.bias[dim:]).split(dim, -1)
        q_BHLK, k_BHLK, v_BHLK = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, attn_mask=mask_B11L)
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BLD)))


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = Linear(dim, 2 * hidden)
        self.w3 = Linear(hidden, dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        gate, value = self.w12(x_BLD).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return x_BLD * self.gamma


class Block(nn.Module):
    """x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x)))."""

    def __init__(self, size: BackboneConfig) -> None:
        super().__init__()
        feed_forward = Mlp if size.ffn == "mlp" else SwiGLU
        self.norm1 = nn.LayerNorm(size.dim, eps=EPS)
        self.attn = Attention(size.dim, size.heads)
        self.ls1 = LayerScale(size.dim)
        self.norm2 = nn.LayerNorm(size.dim, eps=EPS)
        self.mlp = feed_forward(size.dim, size.hidden)
        self.ls2 = LayerScale(size.dim)

    def forward(self, x_BLD: Tensor, *, queries: int | None = None, mask_B11L: Tensor | None = None) -> Tensor:
        """[B, L, D], or [B, queries, D] when only the first tokens are wanted: the rest then costs no feed-forward."""
        kept = x_BLD if queries is None else x_BLD[:, :queries]
        x = kept + self.ls1(self.attn(self.norm1(x_BLD), queries=queries, mask_B11L=mask_B11L))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row by row: [B, C, 14h, 14w] -> [B, h*w, D]."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)
