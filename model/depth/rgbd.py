"""What an RGB-D view must be before the encoder sees it: shapes that fit, metres, something measured, enough tokens.

B batch, H W the frame, h w its token grid. Source: SPEC_DEPTH section 3.
"""

import torch
from torch import Tensor

from model.depth.config import FAR, MIN_DEPTH
from model.errors import UserError


def batched(image: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor]:
    """[B, 3, H, W] and [B, 1, H, W] of image [B, 3, H, W] or [3, H, W] and depth [B, H, W], [B, 1, H, W] or [H, W].

    Raises:
        UserError: there is no depth, one of them is whole numbers, or the shapes do not fit.
    """
    if depth is None:
        raise UserError("depth is missing: the encoder needs metres of every pixel, 0 where there is no return")
    if not image.is_floating_point():
        raise UserError(f"image is {image.dtype}: give floating point in [0, 1], 8-bit values divided by 255")
    if not depth.is_floating_point():
        raise UserError(f"depth is {depth.dtype}: give metres in floating point, millimetres divided by 1000")
    image = image[None] if image.ndim == 3 else image
    depth = depth[None] if depth.ndim == 2 else depth
    depth = depth[:, None] if depth.ndim == 3 else depth
    if image.ndim != 4 or image.shape[1] != 3 or depth.shape != (len(image), 1, *image.shape[-2:]):
        raise UserError(
            f"image {tuple(image.shape)} and depth {tuple(depth.shape)} do not fit: "
            "they must be [B, 3, H, W] and [B, H, W] of the same views"
        )
    return image, depth


def check_metres(depth_B1HW: Tensor, *, empty_views: bool) -> None:
    """UserError when depth cannot be metres, or, unless `empty_views`, when a view has no valid pixel at all."""
    valid = torch.isfinite(depth_B1HW) & (depth_B1HW > MIN_DEPTH)
    counts = valid.flatten(1).sum(1)
    if not empty_views and not bool(counts.all()):
        views = ", ".join(map(str, torch.nonzero(counts == 0).flatten().tolist()))
        raise UserError(
            f"depth of view {views} (of {len(counts)}, from 0) has no valid pixel, finite and beyond {MIN_DEPTH} m: "
            "leave the view out or record its depth"
        )
    far = (valid & (depth_B1HW > FAR)).flatten(1).sum(1)
    if bool((2 * far > counts).any()):
        view = int(torch.nonzero(2 * far > counts)[0])
        median = float(depth_B1HW[view][valid[view]].median())
        raise UserError(
            f"depth of view {view} has a median of {median:.0f} m: it looks like millimetres where metres are "
            "expected; divide it by 1000"
        )


def check_token_count(height: int, width: int, grid: tuple[int, int], num_tokens: int) -> None:
    """UserError when a frame gives another number of tokens than the policy needs, and how to crop it."""
    h, w = grid
    if h * w == num_tokens:
        return
    if height == width:
        raise UserError(
            f"num_tokens is {num_tokens}: a square view has a square number of tokens, ask for {h * w} ({h} x {w})"
        )
    side = min(height, width)
    axis, first = ("columns", (width - side) // 2) if width > height else ("rows", (height - side) // 2)
    raise UserError(
        f"a {width} x {height} view gives {h} x {w} = {h * w} tokens where {num_tokens} are needed: crop it to "
        f"{side} x {side} ({axis} {first} to {first + side - 1}), colour and depth alike"
    )
