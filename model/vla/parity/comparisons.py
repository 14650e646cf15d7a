"""Every output that a fixture can hold, and what of ours it is compared with.

A key of `outputs*.safetensors` is `[variant.][train.|sample.]rest`; keys without a variant are of the policy without
depth. Rows of padding (absent views, padded text) hold what the released eager attention happens to leave there, so
those are not compared; masks are compared whole.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import VisionConfig
from model.vla.parity.configuration import Variant
from model.vla.parity.run import Run

ACTIVATIONS = 2e-4
LOSSES = 1e-5
EXACT = 0.0


@dataclass(frozen=True)
class Ours:
    """Our value of one output; `rows` are the leading axes' entries that count, all where it is None."""

    value: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Comparison:
    key: re.Pattern[str]
    tolerance: float
    compute: Callable[..., Ours | Tensor | None]  # of the run and the key's groups; None: there is no such output

    def ours(self, run: Run, key: str) -> Ours | None:
        match = self.key.fullmatch(key)
        value = self.compute(run, *match.groups()) if match else None
        return Ours(value) if isinstance(value, Tensor) else value


COMPARISONS: list[Comparison] = []


def output(key: str, tolerance: float) -> Callable[[Callable[..., Ours | Tensor | None]], None]:
    """Registers what is compared with the outputs of that name, a regular expression."""

    def register(compute: Callable[..., Ours | Tensor | None]) -> None:
        COMPARISONS.append(Comparison(re.compile(rf"(?:train\.|sample\.)?{key}"), tolerance, compute))

    return register


def find(key: str) -> Comparison | None:
    """The comparison for a key without its variant, if there is one."""
    return next((comparison for comparison in COMPARISONS if comparison.key.fullmatch(key)), None)


def split_variant(name: str) -> tuple[Variant, str]:
    """The variant of an output key, and the rest of it."""
    first, _, rest = name.partition(".")
    if first == "depth":
        return "depth", rest
    return "nodepth", rest if first == "nodepth" else name


@output(r"vision\.patch_embed", ACTIVATIONS)
def patch_embedding(run: Run) -> Tensor:
    return run.vision["patch_embed"].flatten(0, 1)


@output(r"vision\.(block\d+)_windoworder", ACTIVATIONS)
def vision_block(run: Run, block: str) -> Tensor | None:
    if block not in run.vision:
        return None
    return run.vision[block][:, window_order(run.config.vision)].flatten(0, 1)


@output(r"vision\.merged_out", ACTIVATIONS)
def merged_tokens(run: Run) -> Tensor:
    return run.vision["merged"].flatten(0, 1)


@output(r"image_embeds", ACTIVATIONS)
def image_embeddings(run: Run) -> Tensor:
    return run.vision["merged"]


@output(r"prefix_embs", ACTIVATIONS)
def prefix_embeddings(run: Run) -> Ours:
    return Ours(*run.prefix)


@output(r"prefix_pad_masks", EXACT)
def prefix_valid(run: Run) -> Tensor:
    return run.prefix[1]


@output(r"attn_mask_2d", EXACT)
def joint_mask(run: Run) -> Tensor:
    return run.policy.layout.joint_mask(run.prefix[1], run.config.horizon)


@output(r"position_ids", EXACT)
def positions(run: Run) -> Tensor:
    return run.policy.layout.positions(run.prefix[1], run.config.horizon)


@output(r"suffix_embs", ACTIVATIONS)
def suffix_embeddings(run: Run) -> Tensor:
    return run.suffix


@output(r"time_emb_cond", ACTIVATIONS)
def time_condition(run: Run) -> Tensor:
    return run.condition.squeeze(1)


@output(r"(vlm\.(?:layer\d+|final_norm))", ACTIVATIONS)
def prefix_stream(run: Run, name: str) -> Ours | None:
    return Ours(run.streams[name], run.prefix[1]) if name in run.streams else None


@output(r"(expert\.(?:layer\d+|final_norm))", ACTIVATIONS)
def suffix_stream(run: Run, name: str) -> Tensor | None:
    return run.streams.get(name)


@output(r"velocity", ACTIVATIONS)
def velocity(run: Run) -> Tensor:
    return run.streams["velocity"]


@output(r"losses", LOSSES)
def elementwise_losses(run: Run) -> Tensor:
    return run.errors[..., : run.action_dim]


@output(r"batch_mean_losses", LOSSES)
def losses_over_padded_dimensions(run: Run) -> Tensor:
    return run.errors.mean((1, 2))


@output(r"loss_vla", LOSSES)
def action_loss(run: Run) -> Tensor:
    return run.training.losses["action"]


@output(r"loss_total", LOSSES)
def total_loss(run: Run) -> Tensor:
    return run.training.losses["total"]


@output(r"loss_vla_fm_l2", LOSSES)
def squared_loss(run: Run) -> Tensor:
    return run.with_loss("l2").training.losses["action"]


@output(r"loss_vla_vlm_causal", LOSSES)
def causal_loss(run: Run) -> Tensor:
    return run.with_causal_prefix().training.losses["action"]


@output(r"loss_depth_weighted", LOSSES)
def depth_loss(run: Run) -> Tensor | None:
    depth = run.training.losses.get("depth")
    return depth * run.config.depth.weight if run.config.depth and depth is not None else None


@output(r"depth_preds", ACTIVATIONS)
def depth_predictions(run: Run) -> Ours | None:
    predicted = run.training.depth_tokens
    if predicted is None:
        return None
    present = run.batch.image_mask_BV.flatten()
    rows = predicted.new_zeros(len(present), *predicted.shape[1:])
    rows[present] = predicted
    return Ours(rows, present)


@output(r"grad_total_norm", ACTIVATIONS)
def total_gradient_norm(run: Run) -> Tensor:
    return gradient_norms(run).norm()


@output(r"grad_norms_sorted_names", ACTIVATIONS)
def each_gradient_norm(run: Run) -> Tensor:
    return gradient_norms(run)


@output(r"grad\.(.+)", ACTIVATIONS)
def gradient(run: Run, name: str) -> Tensor | None:
    return run.training.gradients.get(name)


@output(r"actions_(\d+)steps?", ACTIVATIONS)
def sampled_actions(run: Run, num_steps: str) -> Tensor:
    return run.sample(int(num_steps))


@output(r"adamw\.losses", LOSSES)
def adamw_losses(run: Run) -> Tensor:
    return run.adamw[0]


@output(r"adamw\.grad_norms", ACTIVATIONS)
def adamw_gradient_norms(run: Run) -> Tensor:
    return run.adamw[1]


def gradient_norms(run: Run) -> Tensor:
    """Of the released parameters, in the fixture's order; the depth queries were none of them."""
    return torch.stack([run.training.gradients[name].norm() for name in run.names])


def window_order(config: VisionConfig) -> Tensor:
    """Patches [P] in the order of the released tower inside its blocks: window by window, cells row by row in each.

    Ours stay in the order of merge cells and attend by index (SPEC_VLA section 1.8).
    """
    cells = config.grid // config.spatial_merge_size
    side = config.window_size // config.spatial_merge_size // config.patch_size
    row, column = torch.arange(cells).div(side, rounding_mode="floor").tile(2, 1)
    order = (row[:, None] * cells + column).flatten().argsort(stable=True)
    patches = config.spatial_merge_size**2
    return (order[:, None] * patches + torch.arange(patches)).flatten()
