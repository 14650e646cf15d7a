"""Depth alignment: queries in the prefix and a resampler head, distilled from the depth teacher (SPEC_VLA section 2).

Shapes: B batch, V views, M merged tokens a view, Q queries a view, N target tokens a view, C target channels, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import DepthConfig
from model.vla.attention import full_attention


class ResamplerAttention(nn.Module):
    """Latents read the context and themselves (Perceiver)."""

    def __init__(self, size: int, heads: int, head_dim: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(size)
        self.norm2 = nn.LayerNorm(size)
        self.to_q = nn.Linear(size, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(size, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, size, bias=False)

    def forward(self, context: Tensor, latents: Tensor) -> Tensor:
        context, latents = self.norm1(context), self.norm2(latents)
        q = self.to_q(latents)
        k, v = self.to_kv(torch.cat([context, latents], dim=1)).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self.to_out(full_attention(q, k, v).transpose(1, 2).flatten(2))


class DepthAlignment(nn.Module):
    """A trainable query table; its group means enter the prefix, its rows are the head's latents.

    The released code loses the table (UPSTREAM_FAULTS 1): here it is a parameter, trained and saved.
    """

    def __init__(self, config: DepthConfig, size: int):
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.randn(config.table_size, size))
        self.proj_in1 = nn.Linear(size, size)
        self.proj_in2 = nn.Linear(size, size)
        self.attention = ResamplerAttention(size, config.head_heads, config.head_dim)
        inner = size * config.ff_mult
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, inner, bias=False), nn.GELU(), nn.Linear(inner, size, bias=False)
        )
        self.proj_out = nn.Linear(size, config.target_channels)
        self.norm_out = nn.LayerNorm(config.target_channels)

    def queries(self) -> Tensor:
        """[Q, D]: each query is the mean of an equal group of the table's rows, the same for every view."""
        return self.table.unflatten(0, (self.config.num_queries, -1)).mean(1)

    def predict(self, image_hidden: Tensor, query_hidden: Tensor) -> Tensor:
        """Teacher tokens [X, N, C] of X views from their image [X, M, D] and query [X, Q, D] hidden states."""
        context = self.proj_in2(torch.cat([image_hidden, query_hidden], dim=1))
        latents = self.proj_in1(self.table).expand(context.shape[0], -1, -1)
        latents = latents + self.attention(context, latents)
        latents = latents + self.feed_forward(latents)
        return self.norm_out(self.proj_out(latents))

    def loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Smooth L1 (beta 1), the mean over all elements of the present views."""
        return F.smooth_l1_loss(predicted, target.to(predicted.dtype))
