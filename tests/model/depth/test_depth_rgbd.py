"""Frames that the encoder refuses, and the sentence that says why and what to do."""

import pytest
import torch

from model.depth.config import BackboneConfig, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.errors import UserError

SIZE = BackboneConfig(dim=16, blocks=1, heads=2, grid=3)
IMAGE = torch.full((2, 3, 28, 28), 0.5)


@pytest.fixture
def encoder() -> RGBDEncoder:
    return RGBDEncoder(DepthConfig(backbone="own", dim_out=8, measured=SIZE)).eval()


def depth(*metres: float, height: int = 28, width: int = 28) -> torch.Tensor:
    return torch.tensor(metres)[:, None, None].expand(-1, height, width).clone()


@pytest.mark.parametrize(
    ("metres", "message"),
    [
        (None, "depth is missing: the encoder needs metres of every pixel"),
        (depth(1.2, 850.0), "depth of view 1 has a median of 850 m: it looks like millimetres.*divide it by 1000"),
        (depth(1.2, 0.0), "depth of view 1 .of 2, from 0. has no valid pixel"),
        (depth(float("nan"), float("inf")), "depth of view 0, 1 .of 2, from 0. has no valid pixel"),
        (depth(1.2), r"image \(2, 3, 28, 28\) and depth \(1, 1, 28, 28\) do not fit"),
        (depth(1.2, 1.2, width=14), r"image \(2, 3, 28, 28\) and depth \(2, 1, 28, 14\) do not fit"),
    ],
)
def test_depth_that_cannot_be_is_refused(encoder: RGBDEncoder, metres: torch.Tensor | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder.infer_feat(IMAGE, metres, num_tokens=4)


def test_whole_numbers_are_refused(encoder: RGBDEncoder) -> None:
    with pytest.raises(UserError, match=r"depth is torch.uint16: give metres in floating point, millimetres divided"):
        encoder.infer_feat(IMAGE, torch.full((2, 28, 28), 900, dtype=torch.uint16), num_tokens=4)
    with pytest.raises(UserError, match=r"image is torch.uint8: give floating point in \[0, 1\], 8-bit values divided"):
        encoder.infer_feat((IMAGE * 255).to(torch.uint8), depth(1.0, 1.0), num_tokens=4)


def test_a_few_far_or_missing_pixels_are_no_fault(encoder: RGBDEncoder) -> None:
    metres = depth(1.2, 2.0)
    metres[:, :10], metres[:, 10:13] = 0, 82.0
    features, _ = encoder.infer_feat(IMAGE, metres, num_tokens=4)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("mask", [False, True])
def test_a_view_without_a_return_is_encoded_when_it_is_asked_for(encoder: RGBDEncoder, mask: bool) -> None:
    features, _ = encoder.infer_feat(IMAGE, depth(1.2, 0.0), num_tokens=4, enable_depth_mask=mask, empty_views=True)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("height", "width", "asked", "message"),
    [
        (480, 640, 256, "a 640 x 480 view gives 14 x 18 = 252 tokens where 256 are needed: crop it to 480 x 480 "
         ".columns 80 to 559., colour and depth alike"),
        (45, 31, 13, "a 31 x 45 view gives 4 x 3 = 12 tokens where 13 are needed: crop it to 31 x 31 .rows 7 to 37."),
        (28, 28, 15, "num_tokens is 15: a square view has a square number of tokens, ask for 16 .4 x 4."),
    ],
)  # fmt: skip
def test_a_view_with_another_number_of_tokens_is_refused(
    encoder: RGBDEncoder, height: int, width: int, asked: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        encoder.tokens(torch.zeros(1, 3, height, width), depth(1.0, height=height, width=width), asked)


def test_tokens_are_the_features_row_by_row(encoder: RGBDEncoder) -> None:
    image, metres = torch.rand(1, 3, 28, 56), depth(1.5, width=56)
    tokens = encoder.tokens(image, metres, 8)
    features, _ = encoder.infer_feat(image, metres, num_tokens=8, enable_depth_mask=False)
    assert tokens.shape == (1, 8, 8)
    assert torch.equal(tokens[0, 5], features[0, :, 1, 1]), "the second of the second row of four"
