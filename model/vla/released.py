"""State-dict adapter: the names and shapes of the released checkpoints, both ways (SPEC_VLA section 3).

Only `RELEASED_NAMES` and the patch embedding differ between the two. What has no released counterpart (the goal head,
learned patch positions, sensors, the direct depth head) keeps its own name behind `lingbot_pipelines.`: a checkpoint
in the released layout loses nothing of ours, and a reader of the released names sees what it need not know.

The released code loses its depth queries (UPSTREAM_FAULTS 1). Here they are `model.depth_align_embs`, as the released
module calls them; `policy_state` makes them from a seed where a checkpoint lacks nothing else.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from model.config import PolicyConfig
from model.errors import UserError
from model.vla.policy import Policy

EXTRAS = "lingbot_pipelines."
DEPTH_QUERIES = "model.depth_align_embs"

_VLM = "model.qwenvl_with_expert.qwenvl"
_EXPERT = "model.qwenvl_with_expert.qwen_expert"
_DEPTH_HEAD = "model.depth_align_head.projector"
_PATCH_EMBEDDING = "modalities.views.tower.patch_embed.weight"

RELEASED_NAMES: tuple[tuple[str, str], ...] = (
    # (ours, released): each names a tensor, or a module with everything below it
    (_PATCH_EMBEDDING, f"{_VLM}.visual.patch_embed.proj.weight"),
    ("modalities.views.tower.blocks", f"{_VLM}.visual.blocks"),
    ("modalities.views.tower.merger", f"{_VLM}.visual.merger"),
    ("modalities.language.embed_tokens", f"{_VLM}.model.embed_tokens"),
    ("backbone.layers", f"{_VLM}.model.layers"),
    ("backbone.norm", f"{_VLM}.model.norm"),
    ("expert.layers", f"{_EXPERT}.model.layers"),
    ("expert.norm", f"{_EXPERT}.model.norm"),
    ("state_proj", "model.state_proj"),
    ("action_in_proj", "model.action_in_proj"),
    ("action_out_proj", "model.action_out_proj"),
    ("action_time_mlp_in", "model.action_time_mlp_in"),
    ("action_time_mlp_out", "model.action_time_mlp_out"),
    ("modalities.depth.table", DEPTH_QUERIES),
    ("modalities.depth.proj_in1", f"{_DEPTH_HEAD}.proj_in1"),
    ("modalities.depth.proj_in2", f"{_DEPTH_HEAD}.proj_in2"),
    ("modalities.depth.attention", f"{_DEPTH_HEAD}.layers.0.0"),
    ("modalities.depth.feed_forward", f"{_DEPTH_HEAD}.layers.0.1"),
    ("modalities.depth.proj_out", f"{_DEPTH_HEAD}.proj_out"),
    ("modalities.depth.norm_out", f"{_DEPTH_HEAD}.norm_out"),
)


def released_name(name: str) -> str:
    """The released name of one of our tensors; a tensor of ours alone keeps its name behind `lingbot_pipelines.`."""
    for ours, released in RELEASED_NAMES:
        if name == ours or name.startswith(f"{ours}."):
            return released + name.removeprefix(ours)
    return EXTRAS + name


def released_state(config: PolicyConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their released names and shapes; a part of them, or their gradients, will do as well.

    The patch embedding becomes the released convolution's [h, 3, Tt, p, p]; nothing is copied or cast.
    """
    return {
        released_name(name): tensor.reshape(_released_shape(config, name, tuple(tensor.shape)))
        for name, tensor in state.items()
    }


def released_shapes(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    """Released names and shapes of a whole policy, in its own order; built on the meta device."""
    return {released_name(name): _released_shape(config, name, shape) for name, shape in _policy_shapes(config).items()}


def lacks_depth_queries(config: PolicyConfig, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the policy has depth queries and the checkpoint does not: the one gap that a seed can fill."""
    return DEPTH_QUERIES not in tensors and DEPTH_QUERIES in map(released_name, _policy_shapes(config))


def policy_state(
    config: PolicyConfig, tensors: Mapping[str, Tensor], *, depth_seed: int | None = None
) -> dict[str, Tensor]:
    """A checkpoint's tensors under our names and shapes, ready for a strict `load_state_dict`.

    Args:
        config: what the policy is made of; says which tensors there must be.
        tensors: the checkpoint, released names and shapes.
        depth_seed: draws the depth queries from N(0, 1) with this seed if the checkpoint lacks them, and only them;
            ask `lacks_depth_queries` before, to say so. None: their absence is an error.

    Raises:
        UserError: every tensor that is missing, unexpected or of the wrong shape, and how to fix it.
    """
    shapes = _policy_shapes(config)
    names = {released_name(name): name for name in shapes}
    assert len(names) == len(shapes), "two tensors of the policy share a released name"
    wanted = {released: _released_shape(config, name, shapes[name]) for released, name in names.items()}
    drawn: dict[str, Tensor] = {}
    if depth_seed is not None and DEPTH_QUERIES in wanted and DEPTH_QUERIES not in tensors:
        random = torch.Generator().manual_seed(depth_seed)
        like = next(iter(tensors.values())).dtype if tensors else torch.float32
        drawn[DEPTH_QUERIES] = torch.randn(wanted[DEPTH_QUERIES], generator=random).to(like)
    _check(config, wanted, {**tensors, **drawn})
    # in the policy's own order, so that equal checkpoints give equal bytes whatever order they were read in
    return {name: {**tensors, **drawn}[released].reshape(shapes[name]) for released, name in names.items()}


def _policy_shapes(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Policy(config).state_dict().items()}


def _released_shape(config: PolicyConfig, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name != _PATCH_EMBEDDING:
        return shape
    vision = config.vision
    return (shape[0], 3, vision.temporal_patch_size, vision.patch_size, vision.patch_size)


def _check(config: PolicyConfig, wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    misshaped = [name for name in wanted if name in tensors and tuple(tensors[name].shape) != wanted[name]]
    if not (missing or unexpected or misshaped):
        return
    lines = [
        *(f"  missing      {name} {list(wanted[name])}" for name in missing),
        *(f"  unexpected   {name} {list(tensors[name].shape)}" for name in unexpected),
        *(f"  wrong shape  {name} {list(tensors[name].shape)}, must be {list(wanted[name])}" for name in misshaped),
    ]
    fixes = _fixes(config, missing, unexpected, misshaped)
    raise UserError(
        f"the checkpoint does not fit the policy '{config.name}', nothing was loaded: {len(missing)} tensors missing, "
        f"{len(unexpected)} unexpected, {len(misshaped)} of the wrong shape. {' '.join(fixes)}\n" + "\n".join(lines)
    )


def _fixes(config: PolicyConfig, missing: list[str], unexpected: list[str], misshaped: list[str]) -> Iterable[str]:
    if missing == [DEPTH_QUERIES]:
        yield "Give a depth seed to draw the depth queries, which the released code never saved."
    elif any(name.startswith("model.depth_align_") for name in missing):
        yield "The checkpoint has no depth alignment: choose a configuration without `depth` (lingbot_vla_4b)."
    if any(name.startswith("model.depth_align_") for name in unexpected):
        yield "The checkpoint has depth alignment: choose a configuration with `depth` (lingbot_vla_4b_depth)."
    if any(name.startswith(EXTRAS) for name in missing):
        yield "The checkpoint has no tensors of lingbot_pipelines: choose a configuration without those parts."
    if any(not name.startswith("model.") and not name.startswith(EXTRAS) for name in unexpected):
        yield "Names outside `model.` are of another layout: convert them to the released one first."
    if misshaped:
        yield "Give the sizes of the configuration that the checkpoint was trained with."
    yield "The policy needs exactly the tensors of model.vla.released.released_shapes(config)."
