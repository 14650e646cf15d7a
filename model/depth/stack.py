"""Convolutional stack of the depth decoder: the neck, and each head on top of it.

A stack is a column of levels, each twice as fine as the one before; B batch, C channels, h w the map of a level.
Parameter names are the official ones. Source: SPEC_DEPTH section 4.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from model.depth.matrices import Conv2d, ConvTranspose2d, GroupNorm, Upsample
from model.depth.stack_config import StackConfig

LEAKY_SLOPE = 0.2
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer_norm": lambda channels: GroupNorm(1, channels),
    "group_norm": lambda channels: GroupNorm(channels // 32, channels),
    "instance_norm": nn.InstanceNorm2d,
    "none": lambda channels: nn.Identity(),
}


def _conv3(channels: int, out: int) -> nn.Module:
    return Conv2d(channels, out, kernel_size=3, padding=1, padding_mode="replicate")


RESAMPLERS: dict[str, Callable[[int, int], nn.Sequential]] = {
    "conv_transpose": lambda c, out: nn.Sequential(ConvTranspose2d(c, out, kernel_size=2, stride=2), _conv3(out, out)),
    "bilinear": lambda c, out: nn.Sequential(Upsample("bilinear"), _conv3(c, out)),
    "nearest": lambda c, out: nn.Sequential(Upsample("nearest"), _conv3(c, out)),
    "pixel_shuffle": lambda c, out: nn.Sequential(_conv3(c, 4 * out), nn.PixelShuffle(2), _conv3(out, out)),
    "pixel_unshuffle": lambda c, out: nn.Sequential(nn.PixelUnshuffle(2), _conv3(4 * c, out)),
    "avg_pool": lambda c, out: nn.Sequential(_conv3(c, out), nn.AvgPool2d(2)),
    "max_pool": lambda c, out: nn.Sequential(_conv3(c, out), nn.MaxPool2d(2)),
}


class ResidualConvBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x))))))."""

    def __init__(self, channels: int, config: StackConfig) -> None:
        super().__init__()
        hidden = channels * config.dim_times_res_block_hidden
        activation = ACTIVATIONS[config.activation]
        self.layers = nn.Sequential(
            NORMS[config.res_block_in_norm](channels),
            activation(),
            _conv3(channels, hidden),
            NORMS[config.res_block_hidden_norm](hidden),
            activation(),
            _conv3(hidden, channels),
        )

    def forward(self, x_BChw: Tensor) -> Tensor:
        return self.layers(x_BChw) + x_BChw


class ConvStack(nn.Module):
    """Maps of every level from the inputs of every level."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        widths = config.dim_res_blocks
        self.input_blocks = nn.ModuleList(
            nn.Identity() if dim is None else Conv2d(dim, width, kernel_size=1)
            for dim, width in zip(config.dim_in, widths, strict=True)
        )
        self.resamplers = nn.ModuleList(
            RESAMPLERS[kind](width, finer)
            for kind, width, finer in zip(config.resamplers, widths[:-1], widths[1:], strict=True)
        )
        self.res_blocks = nn.ModuleList(
            nn.Sequential(*(ResidualConvBlock(width, config) for _ in range(count)))
            for width, count in zip(widths, config.num_res_blocks, strict=True)
        )
        self.output_blocks = nn.ModuleList(
            nn.Identity() if dim is None else Conv2d(width, dim, kernel_size=1)
            for dim, width in zip(config.dim_out, widths, strict=True)
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Coarsest level first, as the inputs."""
        outputs = []
        x_BChw = self.input_blocks[0](inputs[0])
        for level, blocks in enumerate(self.res_blocks):
            if level:
                x_BChw = self.resamplers[level - 1](x_BChw) + self.input_blocks[level](inputs[level])
            x_BChw = blocks(x_BChw)
            outputs.append(self.output_blocks[level](x_BChw))
        return outputs
