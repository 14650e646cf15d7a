"""The frozen network whose tokens the policy learns to predict, and what is done to its inputs.

Without a checkpoint the teacher is a stand-in: the same encoder, small, with seeded weights. It is not LingBot-Depth. A
random network is only worth learning from if its tokens say what is where, so the weights are drawn with that in mind
(see `_draw`); how well they do is measured in the tests and in the step's README.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.depth.checkpoint import read_checkpoint
from model.depth.config import BACKBONES, PATCH, POSITION_GRID, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.matrices import PRECISIONS, at_precision
from model.depth.transformer import Block
from model.errors import UserError, unknown_name

STAND_IN = "seeded random weights: a stand-in, not LingBot-Depth, until a checkpoint is given"
ASPECTS = ("square", "squash")
HEAD = 64  # width of an attention head in every backbone
RGB_MEAN_GAIN, RGB_DETAIL_GAIN = 1.0, 8.0
DEPTH_MEAN_GAIN, DEPTH_DETAIL_GAIN = 2.0, 30.0
PLACE_GAIN = 1.4
PLACE_AMPLITUDE = 0.7
PLACE_LENGTH = 0.15  # of the image's side: 1.2 tokens of 8


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From recorded frames to the encoder's inputs.

    Colour is resized to a square (bilinear, antialiased) and truncated to uint8, depth is resized by nearest
    neighbour: as LingBot-VLA does (SPEC_DEPTH section 6). Each view then gives exactly `num_tokens` tokens, which a
    frame of another shape at its own aspect would not (640x480: 14 x 18 = 252 of 256).

    Attributes:
        aspect: 'square' refuses frames of another shape, 'squash' squeezes them into a square as packing does.
        depth_source, depth_version: where the depth comes from (model/depth/sources.py).
    """

    image_size: int = 112
    num_tokens: int = 64
    enable_depth_mask: bool = False
    precision: str = "fp32"
    aspect: str = "square"
    depth_source: str = "sensor"
    depth_version: str = ""

    def __post_init__(self) -> None:
        side = math.isqrt(max(self.num_tokens, 0))
        if side < 1 or side**2 != self.num_tokens:
            raise UserError(
                f"num_tokens is {self.num_tokens}: a square view has a square number of tokens, "
                f"for example {max(side, 1) ** 2} or {(max(side, 1) + 1) ** 2}"
            )
        if self.image_size < PATCH:
            raise UserError(f"image_size is {self.image_size}: it must be at least one patch ({PATCH} pixels)")
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.aspect not in ASPECTS:
            raise unknown_name("aspect", self.aspect, ASPECTS)

    @property
    def digest(self) -> str:
        """sha256 over everything that changes the tokens of a frame, the weights aside."""
        content = {"version": 2, "image": "square bilinear antialias uint8", "depth": "square nearest", **asdict(self)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __call__(self, images: np.ndarray, depth: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 [B, H, W, 3] and float32 metres [B, H, W] to tensors [B, 3, S, S] in [0, 1] and [B, 1, S, S].

        Raises:
            UserError: the frames are not square, and `aspect` does not squash them.
        """
        depth_B1HW = torch.from_numpy(depth)[:, None]
        if depth_B1HW.shape[-2:] != self._size:
            depth_B1HW = F.interpolate(depth_B1HW, self._size, mode="nearest")
        return self._square(images) / 255, depth_B1HW

    def square(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, 3] of uint8 [B, H, W, 3]: what the policy's teacher, and an estimator of depth, see.

        Raises:
            UserError: the frames are not square, and `aspect` does not squash them.
        """
        return self._square(images).permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()

    def check_shape(self, height: int, width: int) -> None:
        """UserError when frames of that shape do not become squares, with what would make them so."""
        if height != width and self.aspect == "square":
            rows, columns = own_grid(height, width, self.num_tokens)
            side = min(height, width)
            raise UserError(
                f"frames of {width}x{height} pixels are not square: at their own aspect they give {rows} x {columns} = "
                f"{rows * columns} tokens where the policy needs {self.num_tokens}; crop colour and depth of the "
                f"dataset to {side}x{side}, or set extract_depth_tokens.aspect=squash, which squeezes them as pack does"
            )

    @property
    def _size(self) -> tuple[int, int]:
        return (self.image_size, self.image_size)

    def _square(self, images: np.ndarray) -> Tensor:
        """float32 [B, 3, S, S], whole grey levels 0 to 255."""
        height, width = images.shape[1:3]
        self.check_shape(height, width)
        image_B3HW = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        if (height, width) == self._size:
            return image_B3HW
        resized = F.interpolate(image_B3HW, self._size, mode="bilinear", align_corners=False, antialias=True)
        return resized.clamp(0, 255).floor()


def own_grid(height: int, width: int, num_tokens: int) -> tuple[int, int]:
    """Rows and columns of tokens that the encoder takes for a frame at its own aspect (SPEC_DEPTH section 3.1)."""
    aspect = width / height
    return round(math.sqrt(num_tokens / aspect)), round(math.sqrt(num_tokens * aspect))


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """An encoder and where it comes from."""

    name: str
    encoder: RGBDEncoder
    seeded: bool
    source: str

    @property
    def channels(self) -> int:
        return self.encoder.config.dim_out

    def weights_digest(self) -> str:
        """sha256 over names, shapes and fp32 bytes of the weights: the same for model.pt and safetensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.float().contiguous().cpu().numpy().data)
        config = asdict(self.encoder.config) | {"num_tokens_range": None}
        if config["measured"] is None:  # a registered backbone is known by its name
            del config["measured"]
        digest.update(json.dumps(config, sort_keys=True).encode())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What store.json says of the teacher, in plain words."""
        config = self.encoder.config
        return {
            "name": self.name,
            "backbone": config.backbone,
            "remap_depth_in": config.remap_depth_in,
            "seeded_stand_in": self.seeded,
            "source": self.source,
            "weights_digest": self.weights_digest(),
        }

    def tokens(self, images: np.ndarray, depth: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """float32 [B, N, C], row by row over the view, of uint8 [B, H, W, 3] and float32 metres [B, H, W]."""
        image_B3SS, depth_B1SS = preprocessing(images, depth)
        encoder = self.encoder if preprocessing.precision == "fp32" else self.bf16_encoder
        tokens_BNC = encoder.tokens(
            image_B3SS,
            depth_B1SS,
            preprocessing.num_tokens,
            enable_depth_mask=preprocessing.enable_depth_mask,
            empty_views=True,  # a view that saw nothing is masked by who asks
        )
        return tokens_BNC.contiguous().numpy()

    @cached_property
    def bf16_encoder(self) -> RGBDEncoder:
        """The encoder with its matrices in bf16, cast once."""
        return at_precision(self.encoder, "bf16")


def load_teacher(name: str, checkpoint: str = "", seed: int = 0) -> Teacher:
    """The teacher of a checkpoint file when one is given, else the seeded stand-in of a preset.

    Raises:
        UserError: no such preset, or the checkpoint is missing or does not fit.
    """
    if checkpoint:
        read = read_checkpoint(checkpoint)
        unused = f" (not used: {', '.join(read.unused)})" if read.unused else ""
        return Teacher(name=read.config.backbone, encoder=read.encoder(), seeded=False, source=f"checkpoint{unused}")
    return seeded_teacher(name, seed)


def seeded_teacher(preset: str = "demo", seed: int = 0) -> Teacher:
    """The stand-in: backbone `preset`, weights drawn from `seed`, equal everywhere. UserError: no such preset."""
    presets = {name: size for name, size in BACKBONES.items() if size.dim // size.heads == HEAD and size.heads > 1}
    if preset not in presets:
        raise unknown_name("depth teacher", preset, presets)
    with torch.random.fork_rng(devices=[]):  # the constructor's own draws are replaced, and disturb nobody
        encoder = RGBDEncoder(DepthConfig(backbone=preset, dim_out=presets[preset].dim, remap_depth_in="log"))
    with torch.no_grad():
        _draw(encoder, torch.Generator().manual_seed(seed))
    encoder = encoder.eval().requires_grad_(False)
    return Teacher(name=preset, encoder=encoder, seeded=True, source=f"{STAND_IN}; seed {seed}")


def _draw(encoder: RGBDEncoder, generator: torch.Generator) -> None:
    """Weights that keep what and where.

    The last HEAD channels carry position alone: random Fourier features, whose inner product falls off with distance.
    The first head of every block compares those channels, so it mixes each place with its neighbourhood and with the
    depth token of the same place: without that, depth hardly reaches the image tokens, the only ones that are read.
    The other channels carry patches: their mean, and their detail with a larger gain, since a 4 cm cube at 1.2 m
    changes log depth by 0.03. The other heads and the feed-forward layers are plain Gaussian.
    """
    backbone, dim = encoder.backbone, encoder.config.size.dim
    content = dim - HEAD

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name or name.endswith("gamma"):
            parameter.fill_(1)
        elif parameter.ndim == 2:
            parameter.copy_(normal(*parameter.shape) / math.sqrt(parameter.shape[1]))
    for embed, mean_gain, detail_gain in (
        (backbone.patch_embed, RGB_MEAN_GAIN, RGB_DETAIL_GAIN),
        (backbone.depth_patch_embed, DEPTH_MEAN_GAIN, DEPTH_DETAIL_GAIN),
    ):
        channels = embed.proj.in_channels
        mean = normal(dim, channels, 1, 1) / (PATCH**2 * math.sqrt(channels))
        detail = F.interpolate(normal(dim, channels, PATCH // 2, PATCH // 2), size=(PATCH, PATCH), mode="bilinear")
        detail = detail - detail.mean((2, 3), keepdim=True)
        detail = detail / (detail.flatten(1).norm(dim=1)[:, None, None, None] * PATCH)
        kernel = mean_gain * mean + detail_gain * detail
        kernel[content:] = 0
        embed.proj.weight.copy_(kernel)
    for block in backbone.blocks:
        assert isinstance(block, Block)
        weight = block.attn.qkv.weight
        weight[:HEAD] = 0
        weight[:HEAD, content:] = PLACE_GAIN * torch.eye(HEAD)
        weight[dim : 2 * dim] = weight[:dim]  # keys compare with queries alike: attention is a similarity
    rows, columns = torch.meshgrid(*[torch.linspace(0, 1, POSITION_GRID)] * 2, indexing="ij")
    frequency, phase = normal(2, HEAD) / PLACE_LENGTH, 2 * math.pi * torch.rand(HEAD, generator=generator)
    places = torch.stack([rows, columns], -1).flatten(0, 1) @ frequency + phase
    backbone.pos_embed.zero_()
    backbone.pos_embed[0, 1:, content:] = PLACE_AMPLITUDE * math.sqrt(2) * places.cos()
    backbone.cls_token.copy_(normal(1, 1, dim))
    for projection in encoder.output_projections:
        assert isinstance(projection, nn.Conv2d)
        projection.weight.copy_(torch.linalg.qr(normal(dim, dim))[0][:, :, None, None])
