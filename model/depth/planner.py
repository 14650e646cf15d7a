"""What storing a dataset's depth tokens costs, and what computing them again in every training step would.

A pass is one reading of every stored frame in training. Recomputing pays the teacher in every pass; storing pays it
once, and the disk for as long as the tokens are kept.
"""

import math
from dataclasses import dataclass

from model.depth.codec import bytes_per_token
from model.errors import UserError

# Every constant of the plan, and where it is from.
MOGE_FLOPS = 115e9  # a view, MoGe-2 ViT-B at 256 tokens: estimated (SPEC_DEPTH section 7)
SUSTAINED_FLOPS = 200e12  # a GPU, bf16: the careful end of the 200 to 400 TFLOP/s that SPEC_DEPTH section 7 assumes
GPU_HOUR_PRICE = 3.0  # USD: assumed, between rented and list prices of an 80 GB GPU; give your own
TERABYTE_MONTH_PRICE = 23.0  # USD: list price of S3 Standard in us-east-1, 0.023 a GB and month
MONTHS = 6.0  # that the tokens are kept: assumed
ROW_BYTES = 16  # episode and frame of a stored frame (model/depth/shard.py)
VIEW_BYTES = 36  # slot and digest of a view of it
TERA = 1e12


@dataclass(frozen=True, kw_only=True)
class TokenPlan:
    """A dataset, how its tokens are stored, and the cluster that trains on them.

    Attributes:
        hours: of recordings.
        views: cameras.
        rate: extracted frames a second.
        codec: of model/depth/codec.py.
        tokens, channels: of a view.
        teacher_flops: of one view, the estimator of depth included.
        views_per_second: measured throughput of the teacher on one GPU; None: from `sustained_flops`.
        gpus: that train.
        samples_per_second: of one GPU in training; a sample is a frame of all views.
        bandwidth: bytes a second that the storage gives in all; None: enough.
        passes: over the stored frames in training.
    """

    hours: float
    views: int
    rate: float
    codec: str
    tokens: int
    channels: int
    teacher_flops: float
    views_per_second: float | None = None
    sustained_flops: float = SUSTAINED_FLOPS
    gpus: int = 8
    samples_per_second: float = 100.0
    bandwidth: float | None = None
    passes: float = 1.0
    months: float = MONTHS
    gpu_hour_price: float = GPU_HOUR_PRICE
    terabyte_month_price: float = TERABYTE_MONTH_PRICE

    def __post_init__(self) -> None:
        for name in (
            "hours", "views", "rate", "tokens", "channels", "teacher_flops", "sustained_flops", "gpus",
            "samples_per_second", "passes", "gpu_hour_price",
        ):  # fmt: skip
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name.replace('_', ' ')} is {value}: it must be above 0")
        for name in ("views_per_second", "bandwidth"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name.replace('_', ' ')} is {value}: it must be above 0")
        for name in ("months", "terabyte_month_price"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"{name.replace('_', ' ')} is {value}: it must not be below 0")

    @property
    def frames(self) -> float:
        return self.hours * 3600 * self.rate

    @property
    def view_bytes(self) -> int:
        """Stored tokens of one view."""
        return self.tokens * bytes_per_token(self.codec, self.channels)

    @property
    def token_bytes(self) -> float:
        """Of all tokens, if no two views are equal."""
        return self.frames * self.views * self.view_bytes

    @property
    def index_bytes(self) -> float:
        """Of what says where they are."""
        return self.frames * (ROW_BYTES + self.views * VIEW_BYTES)

    @property
    def teacher_views_per_second(self) -> float:
        """Of one GPU."""
        return self.views_per_second or self.sustained_flops / self.teacher_flops

    @property
    def gpu_hours(self) -> float:
        """Of the teacher over every frame once."""
        return self.frames * self.views / self.teacher_views_per_second / 3600

    @property
    def sample_bytes(self) -> int:
        return self.views * self.view_bytes

    @property
    def read_bandwidth(self) -> float:
        """Bytes a second that training reads, all GPUs together."""
        return self.gpus * self.samples_per_second * self.sample_bytes

    @property
    def slowed_samples_per_second(self) -> float:
        """Of one GPU when the storage gives no more than `bandwidth`."""
        if self.bandwidth is None:
            return self.samples_per_second
        return min(self.samples_per_second, self.bandwidth / (self.gpus * self.sample_bytes))

    @property
    def teacher_share(self) -> float:
        """Share of a GPU's time that the teacher would take, beside a training step that takes what it takes now."""
        seconds = self.samples_per_second * self.views / self.teacher_views_per_second
        return seconds / (1 + seconds)

    @property
    def store_cost(self) -> float:
        """USD: the teacher once, and the disk."""
        return self.gpu_hours * self.gpu_hour_price + self.disk_cost

    @property
    def disk_cost(self) -> float:
        return (self.token_bytes + self.index_bytes) / TERA * self.terabyte_month_price * self.months

    @property
    def recompute_cost(self) -> float:
        """USD: the teacher in every pass."""
        return self.passes * self.gpu_hours * self.gpu_hour_price

    @property
    def break_even_passes(self) -> float:
        """Up to so many passes, recomputing costs less."""
        return self.store_cost / (self.gpu_hours * self.gpu_hour_price)

    @property
    def recompute_is_cheaper(self) -> bool:
        return self.recompute_cost < self.store_cost


def teacher_flops(backbone: str, tokens: int, *, monocular: bool) -> tuple[float, int]:
    """FLOPs of one view through the teacher, its depth estimator included, and its channels.

    Raises:
        UserError: no such backbone.
    """
    import torch

    from model.depth.config import DepthConfig
    from model.depth.encoder import RGBDEncoder

    # four projections, as the checkpoint of LingBot-VLA 2.0 is said to have (SPEC_DEPTH section 1.2); the last block
    # is among them either way, so one instead of four changes the FLOPs by less than 1%
    config = DepthConfig(backbone=backbone, dim_out=1)
    last = config.size.blocks
    layers = tuple(sorted({last * quarter // 4 - 1 for quarter in range(1, 5)} & set(range(last))))
    config = DepthConfig(backbone=backbone, dim_out=config.size.dim, intermediate_layers=layers)
    with torch.device("meta"):
        encoder = RGBDEncoder(config)
    return encoder.flops(tokens) + (MOGE_FLOPS if monocular else 0.0), config.dim_out
