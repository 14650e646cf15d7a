"""LingBot-Depth whole: encoder, neck and heads, from an RGB-D image to a refined depth map.

B batch, H W the image, h w the token grid; level l of the decoder is a map of 2^l h by 2^l w.
Source: SPEC_DEPTH section 4. The policy needs the encoder alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.depth.config import DecoderConfig, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.rgbd import batched, check_metres
from model.depth.stack import ConvStack
from model.errors import UserError

LEVELS = 5
UV = 2  # channels of a view-plane map


class LingBotDepth(nn.Module):
    """The released model: `encoder`, `neck`, `depth_head` and, when the config has one, `mask_head`."""

    mask_head: ConvStack | None

    def __init__(self, config: DepthConfig, decoder: DecoderConfig) -> None:
        """UserError when the stacks of `decoder` do not fit the encoder or each other."""
        super().__init__()
        _check_fit(config, decoder)
        self.decoder = decoder
        self.encoder = RGBDEncoder(config)
        self.neck = ConvStack(decoder.neck)
        self.depth_head = ConvStack(decoder.depth_head)
        self.mask_head = None if decoder.mask_head is None else ConvStack(decoder.mask_head)

    def forward(
        self, image: Tensor, depth: Tensor, *, grid: tuple[int, int], enable_depth_mask: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Depth fp32 [B, H, W] in metres and the probability [B, H, W] that it holds (None without a mask head)."""
        trace = self.encoder.trace(image, depth, grid=grid, enable_depth_mask=enable_depth_mask, all_tokens=False)
        with torch.inference_mode():
            start = trace.features + trace.class_BD[..., None, None]
            height, width = image.shape[-2:]
            h, w = grid
            planes = [_view_plane(h << level, w << level, width / height, start) for level in range(LEVELS)]
            inputs = [torch.cat([start, planes[0]], dim=1), *planes[1:]]
            maps = self.neck(inputs)
            depth_BHW = _to_image(self.depth_head(maps)[-1], height, width)
            if self.decoder.remap_depth_out == "exp":
                depth_BHW = depth_BHW.exp()
            if self.mask_head is None:
                return depth_BHW, None
            return depth_BHW, _to_image(self.mask_head(maps)[-1], height, width).sigmoid()

    def infer(
        self,
        image: Tensor,
        depth: Tensor | None,
        *,
        num_tokens: int | None = None,
        resolution_level: int = 9,
        intrinsics: Tensor | None = None,
        apply_mask: bool = True,
        enable_depth_mask: bool = True,
        empty_views: bool = False,
    ) -> dict[str, Tensor]:
        """`depth` [B, H, W] in metres, `mask` bool [B, H, W] (with a mask head) and `points` [B, H, W, 3].

        `image` and `depth` as `RGBDEncoder.infer_feat` takes them; without a batch axis the results have none.
        `points` are camera coordinates in metres, given for `intrinsics` [B, 3, 3] or [3, 3], normalised: fx / W,
        fy / H, cx / W, cy / H. `apply_mask` sets depth and points to +Inf where the mask is False.

        Raises:
            UserError: as `infer_feat`, and for intrinsics that are not normalised 3 x 3 matrices.
        """
        single = image.ndim == 3
        image, depth = batched(image, depth)
        check_metres(depth, empty_views=empty_views)
        grid = self.encoder.token_grid(image.shape[-2], image.shape[-1], num_tokens, resolution_level)
        depth_BHW, probability_BHW = self(image, depth, grid=grid, enable_depth_mask=enable_depth_mask)
        result = {"depth": depth_BHW}
        if intrinsics is not None:
            result["points"] = points(depth_BHW, intrinsics)
        if probability_BHW is not None:
            mask_BHW = probability_BHW > 0.5
            if apply_mask:
                result["depth"] = depth_BHW.where(mask_BHW, torch.inf)
                if intrinsics is not None:
                    result["points"] = result["points"].where(mask_BHW[..., None], torch.inf)
            result["mask"] = mask_BHW
        return {name: tensor[0] for name, tensor in result.items()} if single else result


def points(depth_BHW: Tensor, intrinsics: Tensor) -> Tensor:
    """Camera coordinates [B, H, W, 3] in metres of a depth map, by normalised intrinsics [B, 3, 3] or [3, 3]."""
    height, width = depth_BHW.shape[-2:]
    if intrinsics.shape[-2:] != (3, 3) or intrinsics.ndim > 3 or intrinsics.shape[:-2] not in ((), (len(depth_BHW),)):
        raise UserError(f"intrinsics are {tuple(intrinsics.shape)}: give [3, 3] or [{len(depth_BHW)}, 3, 3]")
    if bool((intrinsics[..., 0, 2] > 2).any()):
        raise UserError(
            f"intrinsics have cx = {float(intrinsics[..., 0, 2].max()):.0f}: they look like pixels, divide the first "
            f"row by the width ({width}) and the second by the height ({height})"
        )
    matrix = intrinsics.to(depth_BHW).expand(len(depth_BHW), 3, 3)[:, None, None]  # over rows and columns
    focal, centre = matrix[..., (0, 1), (0, 1)], matrix[..., (0, 1), (2, 2)]
    size = depth_BHW.new_tensor([width, height])
    rows, columns = torch.meshgrid(
        torch.arange(height, device=depth_BHW.device), torch.arange(width, device=depth_BHW.device), indexing="ij"
    )
    pixels = torch.stack([columns, rows], dim=-1)  # whole numbers: the released code adds no half
    flat = (pixels - centre * size) / (focal * size) * depth_BHW[..., None]
    return torch.cat([flat, depth_BHW[..., None]], dim=-1)


def _view_plane(height: int, width: int, aspect: float, like: Tensor) -> Tensor:
    """[B, 2, height, width]: (u, v) of each cell on a view plane of unit diagonal with the image's aspect ratio."""
    diagonal = math.sqrt(1 + aspect**2)
    span_u, span_v = aspect / diagonal * (width - 1) / width, 1 / diagonal * (height - 1) / height
    u = torch.linspace(-span_u, span_u, width, dtype=like.dtype, device=like.device)
    v = torch.linspace(-span_v, span_v, height, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(u, v, indexing="xy")).expand(len(like), UV, height, width)


def _to_image(map_B1hw: Tensor, height: int, width: int) -> Tensor:
    """fp32 [B, height, width]."""
    resized = F.interpolate(map_B1hw.float(), (height, width), mode="bilinear", align_corners=False, antialias=False)
    return resized.squeeze(1)


def _check_fit(config: DepthConfig, decoder: DecoderConfig) -> None:
    if config.dim_out != config.size.dim:
        raise UserError(
            f"model_config.encoder.dim_out is {config.dim_out}: the decoder adds the class token, "
            f"so it must be the backbone's width {config.size.dim}"
        )
    decoder.neck.check_inputs("model_config.neck", (config.dim_out + UV, *(UV,) * (LEVELS - 1)))
    for name, head in (("depth_head", decoder.depth_head), ("mask_head", decoder.mask_head)):
        if head is not None:
            head.check_inputs(f"model_config.{name}", decoder.neck.outputs)
            if head.outputs[-1] != 1:
                raise UserError(f"model_config.{name}.dim_out ends with {head.outputs[-1]}: a map has 1 channel")
