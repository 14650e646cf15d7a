"""What a language backbone is, and the parts of a layer that backbones and the action expert share.

A backbone runs the whole prefix, so its layers, norms and rotary positions are its own affair; what the expert needs
of it are keys and values a layer, and the rotary table of suffix positions.

Shapes: B batch, N draws, L tokens, H query heads, G key heads, C head size, D hidden.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from model.config import TextConfig
from model.vla.attention import Mask
from model.vla.rope import apply_rotary

KeysValues = tuple[Tensor, Tensor]  # [B, L, G, C] each, keys already rotated


class Backbone(nn.Module):
    layers: nn.ModuleList  # compiled and sharded one by one

    def forward(self, x_BLD: Tensor, positions_BL: Tensor, mask: Mask, hidden: bool) -> tuple[Tensor, list[KeysValues]]:
        """Final-normed hidden states [B, L, D], and each layer's keys and values.

        Without `hidden` nobody reads the states: the last layer then computes its keys and values only.
        """
        raise NotImplementedError

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for the positions [...] of suffix tokens."""
        raise NotImplementedError


class GatedMLP(nn.Module):
    """SwiGLU without biases."""

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
        """Rotated queries [..., L, H, C] and keys [..., L, G, C], and values."""
        return apply_rotary(self._heads(self.q_proj(x)), table), *self.kv(x, table)

    def kv(self, x: Tensor, table: tuple[Tensor, Tensor]) -> KeysValues:
        """Rotated keys [..., L, G, C] and values."""
        return apply_rotary(self._heads(self.k_proj(x)), table), self._heads(self.v_proj(x))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim))
