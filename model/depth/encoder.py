"""RGB-D encoder of LingBot-Depth: one vision transformer over image tokens and depth tokens.

B batch, N tokens of one modality (h*w), R registers, L = 1 + R + 2N sequence, D width. Order in the sequence: class
token, registers, image tokens, depth tokens. Parameter names are the official ones under
`encoder.`. Source: SPEC_DEPTH section 3.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.depth.config import MIN_DEPTH, PATCH, BackboneConfig, DepthConfig
from model.depth.matrices import Conv2d
from model.depth.rgbd import batched, check_metres, check_token_count
from model.depth.transformer import EPS, Block, PatchEmbed

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
POSITION_OFFSET = 0.1  # the variants without registers interpolate by the factor (h + 0.1) / 37
MAX_TOKEN_DEPTH = 200.0  # remapped depth beyond which a pixel does not keep its depth token
MIN_TOKEN_DEPTH = -9.5


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Every intermediate of one forward, for parity checks: all tokens of all layers are kept."""

    image: Tensor  # [B, 3, 14h, 14w] normalised
    depth: Tensor  # [B, 1, 14h, 14w] remapped
    sequence_BLD: Tensor  # before block 0
    kept_BL: Tensor  # bool, False for a masked depth token
    layers_BLD: tuple[Tensor, ...]  # chosen layers after the final norm
    features: Tensor  # [B, dim_out, h, w]
    class_BD: Tensor


class Backbone(nn.Module):
    """Tokens, positions and blocks of both modalities."""

    def __init__(self, size: BackboneConfig) -> None:
        super().__init__()
        self.size = size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + size.grid**2, size.dim))
        self.mask_token = nn.Parameter(torch.zeros(1, size.dim))  # in the checkpoints, unused at inference
        if size.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, size.registers, size.dim))
        self.patch_embed = PatchEmbed(3, size.dim, PATCH)
        self.depth_patch_embed = PatchEmbed(1, size.dim, PATCH)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.blocks))
        self.norm = nn.LayerNorm(size.dim, eps=EPS)

    def positions(self, h: int, w: int, dtype: torch.dtype) -> Tensor:
        """[1, h*w, D] of the table (37 x 37), bicubic, cast to `dtype`; at its own size the raw fp32 parameter."""
        grid, side = self.pos_embed[:, 1:], self.size.grid
        if h == w == side:
            return grid
        grid = grid.float().transpose(1, 2).unflatten(-1, (side, side))
        if self.size.antialias:
            grid = F.interpolate(grid, size=(h, w), mode="bicubic", antialias=True)
        else:
            factors = ((h + POSITION_OFFSET) / side, (w + POSITION_OFFSET) / side)
            grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        assert grid.shape[-2:] == (h, w), (grid.shape, h, w)
        return grid.flatten(2).transpose(1, 2).to(dtype)

    def embed(self, image: Tensor, depth: Tensor) -> Tensor:
        """[B, L, D] from a normalised image and a remapped depth of 14h x 14w."""
        h, w = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        image_BND, depth_BND = self.patch_embed(image), self.depth_patch_embed(depth)
        position = self.positions(h, w, image_BND.dtype)
        # (constant + position) first, in the tokens' dtype: under bf16 the rounding of that sum is part of the teacher
        image_BND = image_BND + (1 + position)
        depth_BND = depth_BND + (2 + position)
        head = [self.cls_token + self.pos_embed[:, :1]]
        if self.size.registers:
            head.append(self.register_tokens)
        return torch.cat([*(t.expand(len(image), -1, -1) for t in head), image_BND, depth_BND], dim=1)

    def forward(
        self, x_BLD: Tensor, layers: tuple[int, ...], *, kept_BL: Tensor | None, queries: int | None
    ) -> list[Tensor]:
        """Normed outputs of `layers`. With `queries`, the last one holds the first `queries` tokens only."""
        mask_B11L = None if kept_BL is None else kept_BL[:, None, None]
        outputs = []
        for number in range(layers[-1] + 1):
            wanted = queries if number == layers[-1] else None
            x_BLD = self.blocks[number](x_BLD, mask_B11L=mask_B11L, queries=wanted)
            if number in layers:
                outputs.append(self.norm(x_BLD))
        return outputs


class RGBDEncoder(nn.Module):
    """`infer_feat` of LingBot-Depth: features of the image tokens, informed by the depth tokens."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.size)
        self.output_projections = nn.ModuleList(
            Conv2d(config.size.dim, config.dim_out, kernel_size=1) for _ in config.layers
        )
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1))

    def token_grid(
        self, height: int, width: int, num_tokens: int | None = None, resolution_level: int = 9
    ) -> tuple[int, int]:
        """Rows and columns of tokens for an image: about `num_tokens` of them at the image's aspect ratio."""
        if num_tokens is None:
            low, high = self.config.num_tokens_range
            num_tokens = int(low + (resolution_level / 9) * (high - low))
        aspect = width / height
        return round(math.sqrt(num_tokens / aspect)), round(math.sqrt(num_tokens * aspect))

    def prepare(self, image: Tensor, depth: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Resized, normalised image [B, 3, 14h, 14w] and resized, remapped depth [B, 1, 14h, 14w]."""
        size = (h * PATCH, w * PATCH)
        if image.shape[-2:] != size:  # at the same size both are the identity, and cost a twelfth of a small encoder
            image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
            depth = F.interpolate(depth, size, mode="nearest")
        image = (image - self.image_mean) / self.image_std
        depth = torch.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
        valid = depth > MIN_DEPTH
        depth = depth * valid
        if self.config.remap_depth_in == "log":
            depth = torch.where(valid, depth, torch.ones_like(depth)).log()
        return image, depth

    def kept_tokens(self, depth: Tensor) -> Tensor:
        """[B, L] bool: all but the depth tokens of patches without a valid pixel.

        A pixel is valid when its remapped depth is not 0 (with 'log', exactly 1 m counts as invalid: so does the
        official code) and in range.
        """
        valid = (depth != 0) & (depth >= MIN_TOKEN_DEPTH) & (depth <= MAX_TOKEN_DEPTH)
        kept_BN = F.max_pool2d(valid.float(), PATCH).flatten(1) > 0
        others = torch.ones(len(depth), 1 + self.config.size.registers + kept_BN.shape[1], dtype=torch.bool)
        return torch.cat([others.to(kept_BN.device), kept_BN], dim=1)

    def trace(
        self,
        image: Tensor,
        depth: Tensor,
        *,
        grid: tuple[int, int],
        enable_depth_mask: bool,
        all_tokens: bool,
    ) -> Trace:
        """One forward with its intermediates; `all_tokens` keeps the last layer's depth tokens, which nothing needs."""
        image, depth = batched(image, depth)
        h, w = grid
        image, depth = image.to(self.image_mean), depth.to(self.image_mean)
        with torch.inference_mode():
            image, depth = self.prepare(image, depth, h, w)
            kept_BL = self.kept_tokens(depth) if enable_depth_mask else None
            x_BLD = self.backbone.embed(image, depth)
            first = 1 + self.config.size.registers
            end = first + h * w
            wanted = None if all_tokens else end
            layers_BLD = self.backbone(x_BLD, self.config.layers, kept_BL=kept_BL, queries=wanted)
            maps = [layer[:, first:end].transpose(1, 2).unflatten(-1, (h, w)) for layer in layers_BLD]
            projected = [projection(map_) for projection, map_ in zip(self.output_projections, maps, strict=True)]
            features = torch.stack(projected, dim=1).float().sum(dim=1)
        return Trace(
            image=image,
            depth=depth,
            sequence_BLD=x_BLD,
            layers_BLD=tuple(layers_BLD),
            features=features,
            kept_BL=torch.ones(x_BLD.shape[:2], dtype=torch.bool) if kept_BL is None else kept_BL,
            class_BD=layers_BLD[-1][:, 0],
        )

    def infer_feat(
        self,
        image: Tensor,
        depth: Tensor | None,
        *,
        num_tokens: int | None = None,
        enable_depth_mask: bool = True,
        resolution_level: int = 9,
        empty_views: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Features fp32 [B, dim_out, h, w] and class token [B, D] of RGB-D images.

        `image` is RGB in [0, 1], [B, 3, H, W] or [3, H, W]; `depth` is metres, [B, H, W], [B, 1, H, W] or [H, W], where
        0, NaN, Inf and values up to 1 cm mean no return. `enable_depth_mask` leaves out the depth tokens of patches
        without a valid pixel (LingBot-VLA extracts its targets with False). For bf16 in the order of casts of the
        released teacher call `at_precision(encoder, "bf16").infer_feat` (SPEC_DEPTH 3.10).

        Raises:
            UserError: depth is missing, does not fit the image, looks like millimetres, or (unless `empty_views`) has
                no valid pixel in a view.
        """
        image, depth = batched(image, depth)
        check_metres(depth, empty_views=empty_views)
        grid = self.token_grid(image.shape[-2], image.shape[-1], num_tokens, resolution_level)
        trace = self.trace(image, depth, grid=grid, enable_depth_mask=enable_depth_mask, all_tokens=False)
        return trace.features, trace.class_BD

    def tokens(
        self,
        image: Tensor,
        depth: Tensor | None,
        num_tokens: int,
        *,
        enable_depth_mask: bool = False,
        empty_views: bool = False,
    ) -> Tensor:
        """fp32 [B, num_tokens, dim_out], row by row over the view: what the policy is aligned to (SPEC section 6).

        Raises:
            UserError: as `infer_feat`, and for frames that do not give exactly `num_tokens`.
        """
        height, width = image.shape[-2:]
        check_token_count(height, width, self.token_grid(height, width, num_tokens), num_tokens)
        features, _ = self.infer_feat(
            image, depth, num_tokens=num_tokens, enable_depth_mask=enable_depth_mask, empty_views=empty_views
        )
        return features.flatten(2).transpose(1, 2)

    def flops(self, num_tokens: int) -> int:
        """Floating-point operations of `infer_feat` for one square view of `num_tokens` image tokens."""
        size, sequence = self.config.size, 1 + self.config.size.registers + 2 * num_tokens
        matrices = 3 if size.ffn == "swiglu" else 2

        def block(queries: int) -> int:
            keys_values = 4 * size.dim**2 * sequence
            rest = (4 * size.dim**2 + 2 * matrices * size.dim * size.hidden) * queries
            return keys_values + rest + 4 * size.dim * sequence * queries

        blocks = self.config.layers[-1] * block(sequence) + block(1 + size.registers + num_tokens)
        embed = 2 * 4 * PATCH**2 * size.dim * num_tokens
        return blocks + embed + 2 * len(self.config.layers) * size.dim * self.config.dim_out * num_tokens
