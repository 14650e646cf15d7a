"""Mixture of two transformers: the language stream reads the prefix, the action expert the suffix (SPEC_VLA 1.3).

The block-causal mask lets no prefix token see the suffix. So the joint attention of every layer splits exactly in
two passes: the prefix pass keeps each layer's keys and values, and any number of suffixes (noise draws in training,
Euler steps in sampling) attend to them. Both use the same code, cached or not.

Shapes: B batch, N draws, L prefix, S suffix = 1 state + T actions, D language size, E expert size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import PolicyConfig, TextConfig
from model.vla.attention import prefix_attention, suffix_attention
from model.vla.norms import AdaNorm, RMSNorm
from model.vla.rope import apply_rotary, rotary_table

Modulation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PrefixCache:
    """What the suffix needs of the prefix: keys and values [B, L, G, C] of each layer, and which tokens are valid."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    valid_BL: Tensor
    length_B: Tensor  # number of valid tokens: the position where the suffix starts


class GatedMLP(nn.Module):
    def __init__(self, size: int, intermediate: int):
        super().__init__()
        self.gate_proj = nn.Linear(size, intermediate, bias=False)
        self.up_proj = nn.Linear(size, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Projections(nn.Module):
    """Query, key, value and output of one stream; both streams share the heads, so they can attend jointly."""

    def __init__(self, size: int, text: TextConfig):
        super().__init__()
        self.head_dim = text.head_dim
        self.q_proj = nn.Linear(size, text.num_heads * text.head_dim)
        self.k_proj = nn.Linear(size, text.num_kv_heads * text.head_dim)
        self.v_proj = nn.Linear(size, text.num_kv_heads * text.head_dim)
        self.o_proj = nn.Linear(text.num_heads * text.head_dim, size, bias=False)

    def qkv(self, x: Tensor, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return apply_rotary(q, table), apply_rotary(k, table), v


class PrefixBlock(nn.Module):
    """A layer of the language model; it also hands out its keys and values."""

    def __init__(self, config: PolicyConfig):
        super().__init__()
        text = config.text
        self.input_layernorm = RMSNorm(text.hidden_size, text.rms_norm_eps)
        self.self_attn = Projections(text.hidden_size, text)
        self.post_attention_layernorm = RMSNorm(text.hidden_size, text.rms_norm_eps)
        self.mlp = GatedMLP(text.hidden_size, text.intermediate_size)

    def forward(self, x_BLD: Tensor, table: tuple[Tensor, Tensor], mask_BLL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.self_attn.qkv(self.input_layernorm(x_BLD), table)
        x_BLD = x_BLD + self.self_attn.o_proj(prefix_attention(q, k, v, mask_BLL))
        return x_BLD + self.mlp(self.post_attention_layernorm(x_BLD)), k, v


class SuffixBlock(nn.Module):
    """A layer of the action expert: AdaNorm on time, joint attention, gated MLP."""

    def __init__(self, config: PolicyConfig):
        super().__init__()
        text, size = config.text, config.expert.hidden_size
        self.input_layernorm = AdaNorm(size, text.rms_norm_eps)
        self.self_attn = Projections(size, text)
        self.post_attention_layernorm = AdaNorm(size, text.rms_norm_eps)
        self.mlp = GatedMLP(size, config.expert.intermediate_size)

    def modulations(self, condition: Tensor) -> tuple[Modulation, Modulation]:
        return self.input_layernorm.modulation(condition), self.post_attention_layernorm.modulation(condition)

    def forward(
        self,
        x_BNSE: Tensor,
        table: tuple[Tensor, Tensor],
        modulations: tuple[Modulation, Modulation],
        keys: Tensor,
        values: Tensor,
        valid_BL: Tensor,
    ) -> Tensor:
        q, k, v = self.self_attn.qkv(self.input_layernorm(x_BNSE, modulations[0]), table)
        x_BNSE = x_BNSE + self.self_attn.o_proj(suffix_attention(q, k, v, keys, values, valid_BL))
        return x_BNSE + self.mlp(self.post_attention_layernorm(x_BNSE, modulations[1]))


class TwoStreamTransformer(nn.Module):
    """The prefix stream (language model) and the suffix stream (action expert), layer by layer."""

    def __init__(self, config: PolicyConfig):
        super().__init__()
        self.head_dim = config.text.head_dim
        self.prefix_layers = nn.ModuleList(PrefixBlock(config) for _ in range(config.text.num_layers))
        self.prefix_norm = RMSNorm(config.text.hidden_size, config.text.rms_norm_eps)
        self.suffix_layers = nn.ModuleList(SuffixBlock(config) for _ in range(config.text.num_layers))
        self.suffix_norm = RMSNorm(config.expert.hidden_size, config.text.rms_norm_eps)

    def prefix(self, x_BLD: Tensor, valid_BL: Tensor, mask_BLL: Tensor) -> tuple[Tensor, PrefixCache]:
        """Final-normed hidden states [B, L, D] of the prefix, and the cache for suffixes."""
        positions = valid_BL.long().cumsum(1) - 1
        table = rotary_table(positions.clamp_min(0), self.head_dim)
        keys, values = [], []
        for layer in self.prefix_layers:
            x_BLD, k, v = layer(x_BLD, table, mask_BLL)
            keys.append(k)
            values.append(v)
        cache = PrefixCache(tuple(keys), tuple(values), valid_BL, valid_BL.sum(1))
        return self.prefix_norm(x_BLD), cache

    def modulations(self, condition: Tensor) -> list[tuple[Modulation, Modulation]]:
        """AdaNorm scales and shifts of every suffix layer for a time embedding [..., E]."""
        return [_suffix_block(layer).modulations(condition) for layer in self.suffix_layers]

    def suffix(self, x_BNSE: Tensor, modulations: list[tuple[Modulation, Modulation]], cache: PrefixCache) -> Tensor:
        """Final-normed hidden states [B, N, S, E] of N suffixes over one prefix."""
        positions = cache.length_B[:, None, None] + torch.arange(x_BNSE.shape[2], device=x_BNSE.device)
        table = rotary_table(positions.expand(-1, x_BNSE.shape[1], -1), self.head_dim)
        for layer, modulation, keys, values in zip(
            self.suffix_layers, modulations, cache.keys, cache.values, strict=True
        ):
            x_BNSE = layer(x_BNSE, table, modulation, keys, values, cache.valid_BL)
        return self.suffix_norm(x_BNSE)


def _suffix_block(module: nn.Module) -> SuffixBlock:
    assert isinstance(module, SuffixBlock)
    return module
