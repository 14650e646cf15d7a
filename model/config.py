"""What a policy is made of: frozen configurations and named presets.

Sizes follow SPEC_VLA section 1.1. `lingbot_vla_4b` and `lingbot_vla_4b_depth` are the released sizes; `small` is the
benchmark size; `demo` trains in minutes on two cores; `debug` is its twin for tests, seconds on one core.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from model.errors import UserError, unknown_name

TimeDistribution = Literal["uniform", "beta", "released"]
Prediction = Literal["velocity", "clean_action"]
ActionLoss = Literal["l1", "l2"]
DepthMode = Literal["query", "direct"]
DepthLoss = Literal["smooth_l1", "l1"]


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Vision tower with Qwen2.5-VL semantics (SPEC_VLA section 1.8)."""

    kind: str = "qwen2_5_vl"
    image_size: int = 224
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    window_size: int = 112
    hidden_size: int = 1280
    num_layers: int = 32
    num_heads: int = 16
    intermediate_size: int = 3420
    full_attention_layers: tuple[int, ...] = (7, 15, 23, 31)
    learned_positions: bool = False  # absolute patch positions, as Qwen3-VL has them; small towers localise with them
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        cell = self.patch_size * self.spatial_merge_size
        if self.image_size % cell:
            raise UserError(
                f"image_size {self.image_size} does not divide into merged patches: choose a multiple of {cell}."
            )
        _check_heads("vision", self.hidden_size, self.num_heads)

    @property
    def grid(self) -> int:
        """Patches along one side of a view."""
        return self.image_size // self.patch_size

    @property
    def tokens_per_view(self) -> int:
        """Merged tokens that one view gives to the language model (M)."""
        return (self.grid // self.spatial_merge_size) ** 2


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Language stream (SPEC_VLA section 1.1). The expert shares its number of layers, heads and head size."""

    kind: str = "qwen2_5"
    causal: bool = False  # `vlm_causal` of the released code: each prefix token sees only those before it
    vocab_size: int = 151936
    max_length: int = 24
    hidden_size: int = 2048
    num_layers: int = 36
    num_heads: int = 16
    num_kv_heads: int = 2
    head_dim: int = 128
    intermediate_size: int = 11008
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}: "
                f"every key head serves the same number of query heads."
            )


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Action expert, the suffix stream (SPEC_VLA sections 1.6, 1.7)."""

    hidden_size: int = 768
    intermediate_size: int = 2752


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """Depth alignment: per-view queries distilled from the teacher's tokens (SPEC_VLA section 2).

    `loss`: smooth_l1 is the released one, l1 the paper's. `mode`: see `model.vla.modalities.depth`.
    """

    mode: DepthMode = "query"
    loss: DepthLoss = "smooth_l1"
    num_queries: int = 8
    table_size: int = 256
    head_heads: int = 4
    head_dim: int = 32
    ff_mult: int = 1
    target_tokens: int = 256
    target_channels: int = 1024
    weight: float = 0.004
    standardize: bool = False  # z-score what moves in the teacher's tokens; a seeded stand-in has no scale of its own


@dataclass(frozen=True, kw_only=True)
class GoalConfig:
    """Hindsight goal head: image-only queries predict where the robot's own gripper next closes.

    Ours, not in the paper (DESIGN section 4). The label is the robot's own later record, so it needs no simulator.
    """

    num_queries: int = 4
    readout_size: int = 64
    dimensions: int = 3
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SensorConfig:
    """A further sensor whose reading is a vector: `size` values become `num_tokens` tokens of the prefix."""

    name: str
    size: int
    num_tokens: int = 1
    kind: str = "vector"


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Conditional flow matching (SPEC_VLA section 1.9); public time `s` runs from noise (0) to action (1)."""

    time_distribution: TimeDistribution = "uniform"
    prediction: Prediction = "velocity"
    loss: ActionLoss = "l2"
    num_steps: int = 10


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """A whole policy. `views` is the number of camera slots; absent views are masked."""

    name: str = "lingbot_vla_4b"
    views: int = 3
    horizon: int = 50
    dimensions: int = 75
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    depth: DepthConfig | None = None
    goal: GoalConfig | None = None
    sensors: tuple[SensorConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.views < 1:
            raise UserError(f"views is {self.views}: a policy needs at least one camera view.")
        if self.horizon < 1:
            raise UserError(f"horizon is {self.horizon}: an action chunk has at least one step.")
        if self.depth and self.depth.table_size % self.depth.num_queries:
            raise UserError(
                f"depth table_size {self.depth.table_size} must be a multiple of num_queries {self.depth.num_queries}: "
                f"each query is the mean of an equal group of rows."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PolicyConfig":
        """Inverse of `to_dict`. Unknown or missing keys are errors."""
        values = dict(values)
        _check_keys("policy", values, cls)
        parts = {"vision": VisionConfig, "text": TextConfig, "expert": ExpertConfig, "flow": FlowConfig}
        for key, part in parts.items():
            _check_keys(key, values[key], part)
            values[key] = part(**{k: tuple(v) if isinstance(v, list) else v for k, v in values[key].items()})
        for key, part in (("depth", DepthConfig), ("goal", GoalConfig)):
            if values[key]:
                _check_keys(key, values[key], part)
        values["depth"] = DepthConfig(**values["depth"]) if values["depth"] else None
        values["goal"] = GoalConfig(**values["goal"]) if values["goal"] else None
        for sensor in values["sensors"]:
            _check_keys("sensors", sensor, SensorConfig)
        values["sensors"] = tuple(SensorConfig(**sensor) for sensor in values["sensors"])
        return cls(**values)


def _check_keys(section: str, values: dict[str, Any], config: type) -> None:
    names = {entry.name for entry in fields(config)}
    different = sorted(names ^ values.keys())
    if different:
        raise UserError(
            f"configuration '{section}' lacks or does not know {', '.join(different)}: "
            f"it was written by another version of the model code; export it again with this one."
        )


def _check_heads(stream: str, hidden_size: int, num_heads: int) -> None:
    if hidden_size % num_heads:
        raise UserError(
            f"{stream} hidden_size {hidden_size} does not divide by num_heads {num_heads}: choose a multiple."
        )


_RELEASED = PolicyConfig(flow=FlowConfig(time_distribution="released", loss="l1"))
_DEMO_DEPTH = DepthConfig(
    table_size=64, head_heads=2, target_tokens=64, target_channels=192, weight=0.2, standardize=True
)
_DEMO = PolicyConfig(
    name="demo",
    horizon=20,
    vision=VisionConfig(
        image_size=112, temporal_patch_size=1, hidden_size=64, num_layers=2, num_heads=2, intermediate_size=192,
        full_attention_layers=(0, 1), learned_positions=True,
    ),
    text=TextConfig(
        vocab_size=512, max_length=12, hidden_size=128, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=32,
        intermediate_size=256,
    ),
    expert=ExpertConfig(hidden_size=128, intermediate_size=256),
    flow=FlowConfig(prediction="clean_action"),
    depth=_DEMO_DEPTH,
    goal=GoalConfig(),
)  # fmt: skip

PRESETS: dict[str, PolicyConfig] = {
    "lingbot_vla_4b": _RELEASED,
    "lingbot_vla_4b_depth": replace(_RELEASED, name="lingbot_vla_4b_depth", depth=DepthConfig()),
    "small": PolicyConfig(
        name="small",
        vision=VisionConfig(
            hidden_size=384, num_layers=8, num_heads=6, intermediate_size=1024, full_attention_layers=(3, 7)
        ),
        text=TextConfig(
            vocab_size=4096, hidden_size=512, num_layers=8, num_heads=8, head_dim=64, intermediate_size=2048
        ),
        expert=ExpertConfig(hidden_size=256, intermediate_size=1024),
    ),
    "demo": _DEMO,
    "debug": replace(
        _DEMO,
        name="debug",
        horizon=10,
        vision=replace(
            _DEMO.vision, image_size=56, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64,
            full_attention_layers=(1,),
        ),
        text=replace(_DEMO.text, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16,
                     intermediate_size=64),
        expert=ExpertConfig(hidden_size=32, intermediate_size=64),
        depth=replace(_DEMO_DEPTH, table_size=16, target_tokens=16, head_heads=1, head_dim=16),
    ),
}  # fmt: skip


def preset(name: str) -> PolicyConfig:
    """The preset of that name; an unknown name is answered with the nearest."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
