"""Qwen2.5's language model as the released policy runs it: 1-D rotary positions with theta 10 000, no mrope (SPEC 1.4).

Shapes: B batch, L prefix, D hidden.
"""

from torch import Tensor, nn

from model.config import TextConfig
from model.vla.attention import Mask, attention
from model.vla.backbones.base import Backbone, GatedMLP, KeysValues, Projections
from model.vla.norms import RMSNorm
from model.vla.rope import rotary_table


class QwenBlock(nn.Module):
    """A layer of the language model; it also hands out its keys and values."""

    def __init__(self, text: TextConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(text.hidden_size, text.rms_norm_eps)
        self.self_attn = Projections(text.hidden_size, text)
        self.post_attention_layernorm = RMSNorm(text.hidden_size, text.rms_norm_eps)
        self.mlp = GatedMLP(text.hidden_size, text.intermediate_size)

    def forward(self, x_BLD: Tensor, table: tuple[Tensor, Tensor], mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.self_attn.qkv(self.input_layernorm(x_BLD), table)
        attended = attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), mask).squeeze(1)
        x_BLD = x_BLD + self.self_attn.o_proj(attended)
        return x_BLD + self.mlp(self.post_attention_layernorm(x_BLD)), k, v

    def keys_values(self, x_BLD: Tensor, table: tuple[Tensor, Tensor]) -> KeysValues:
        """What the expert reads of this layer, without the layer's own output."""
        return self.self_attn.kv(self.input_layernorm(x_BLD), table)


class QwenBackbone(Backbone):
    def __init__(self, text: TextConfig):
        super().__init__()
        self.head_dim = text.head_dim
        self.layers = nn.ModuleList(QwenBlock(text) for _ in range(text.num_layers))
        self.norm = RMSNorm(text.hidden_size, text.rms_norm_eps)

    def forward(self, x_BLD: Tensor, positions_BL: Tensor, mask: Mask, hidden: bool) -> tuple[Tensor, list[KeysValues]]:
        table = self.rotary(positions_BL)
        keys_values: list[KeysValues] = []
        *layers, last = self.layers
        for layer in layers:
            x_BLD, k, v = layer(x_BLD, table, mask)
            keys_values.append((k, v))
        if not hidden:
            keys_values.append(_block(last).keys_values(x_BLD, table))
            return x_BLD, keys_values
        x_BLD, k, v = last(x_BLD, table, mask)
        keys_values.append((k, v))
        return self.norm(x_BLD), keys_values

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rotary_table(positions, self.head_dim)


def _block(module: nn.Module) -> QwenBlock:
    assert isinstance(module, QwenBlock)
    return module
