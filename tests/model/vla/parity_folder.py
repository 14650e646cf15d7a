"""Writes a parity fixture of other dimensions than the reference one, its numbers from our own policy.

It proves the comparison (what it reads, what it must refuse), not the policy: that agrees with itself.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.vla.parity.comparisons import find, split_variant
from model.vla.parity.configuration import policy_config
from model.vla.parity.fixture import Fixture
from model.vla.parity.run import Run
from model.vla.parity.standalone import preprocess
from model.vla.policy import Policy
from model.vla.released import DEPTH_QUERIES, released_state

BATCH, VIEWS, TEXT, HORIZON, DIMENSIONS, ACTION_DIM = 3, 2, 5, 4, 5, 3
PATCH, GRID, LARGE_GRID = 4, 6, 8  # three merge cells a side under windows of two: uneven windows, then even ones

CONFIG: dict[str, Any] = {
    "vlm": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 50,
        "vision_config": {
            "depth": 3,
            "hidden_size": 24,
            "intermediate_size": 36,
            "num_heads": 2,
            "patch_size": PATCH,
            "temporal_patch_size": 1,
            "spatial_merge_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [2],
        },
    },
    "expert": {"hidden_size": 20, "intermediate_size": 28, "head_dim": 12},
    "policy": {"max_state_dim": DIMENSIONS, "max_action_dim": DIMENSIONS, "action_dim": ACTION_DIM},
    "align_params": {
        "mode": "query",
        "num_task_tokens": 3,
        "depth_loss_weight": 0.1,
        "depth": {
            "num_layers": 1,
            "num_heads": 2,
            "dim_head": 4,
            "ff_mult": 2,
            "num_backbone_tokens": 12,
            "dim_out": 6,
        },
    },
    "flags": {"adanorm_time": True, "old_adanorm": True, "norm_qkv": False, "loss_type": "fm"},
}

_OF_BOTH = (
    "prefix_embs",
    "prefix_pad_masks",
    "suffix_embs",
    "time_emb_cond",
    "sample.actions_1step",
    "sample.actions_3steps",
    "train.vision.patch_embed",
    "train.vision.block0_windoworder",
    "train.vision.block2_windoworder",
    "train.vision.merged_out",
    "train.attn_mask_2d",
    "train.position_ids",
    "train.vlm.layer0",
    "train.vlm.layer1",
    "train.vlm.final_norm",
    "train.expert.layer1",
    "train.expert.final_norm",
    "train.velocity",
    "train.losses",
    "train.loss_vla",
    "train.loss_total",
    "train.batch_mean_losses",
    "train.grad_total_norm",
    "train.grad_norms_sorted_names",
    "train.grad.model.state_proj.weight",
    "train.grad.model.qwenvl_with_expert.qwenvl.visual.patch_embed.proj.weight",
    "adamw.losses",
    "adamw.grad_norms",
)
KEYS = [
    *(f"{variant}.{key}" for variant in ("nodepth", "depth") for key in _OF_BOTH),
    "nodepth.train.loss_vla_fm_l2",
    "depth.train.loss_depth_weighted",
    "depth.train.depth_preds",
]
LARGE_KEYS = ["image_embeds", "losses", "loss_vla", "loss_vla_vlm_causal", "actions_2steps"]
ADAMW_STEPS = 3
GARBAGE = 1e3  # what the released code leaves in rows of padding is no part of the comparison

CLOCK = {
    "torch.float32_3": {"steps": 3, "sum_dt": -1.0, "last_t": 1 / 3},
    "torch.bfloat16_3": {"steps": 3, "sum_dt": -1.0, "last_t": 0.33},
    "torch.bfloat16_6": {"steps": 7, "sum_dt": -1.16, "last_t": 0.02},  # the fault: one step too many
}


def write_fixture(folder: Path) -> Path:
    """The whole folder; every file that a fixture can have."""
    random = torch.Generator().manual_seed(3)
    save_file(_inputs(random, GRID, scale=None), folder / "inputs.safetensors")
    save_file(_inputs(random, LARGE_GRID, scale=32), folder / "inputs_large.safetensors")
    for name in ("weights", "outputs", "outputs_large"):  # a fixture opens only when it is whole
        save_file({}, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weights = _weights(Fixture(folder), random)
    save_file(weights, folder / "weights.safetensors")
    names = sorted(name for name in weights if name != DEPTH_QUERIES)
    without_depth = [name for name in names if "depth_align" not in name]
    config = {**CONFIG, "param_names_sorted_depth": names, "param_names_sorted_nodepth": without_depth}
    (folder / "config.json").write_text(json.dumps(config))
    fixture = Fixture(folder)
    for end, keys in (("", KEYS), ("_large", LARGE_KEYS)):
        save_file(_outputs(fixture, f"inputs{end}.safetensors", keys), folder / f"outputs{end}.safetensors")
    save_file(_preprocessing(random), folder / "preprocess.safetensors")
    (folder / "euler_schedule.json").write_text(json.dumps(CLOCK))
    return folder


def edit(folder: Path, name: str, **changes: Tensor | None) -> None:
    """Replaces tensors of a file; None takes one out. Dots in names are written as `__`."""
    tensors = load_file(folder / name)
    for key, value in changes.items():
        key = key.replace("__", ".")
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, folder / name)


def _inputs(random: torch.Generator, grid: int, scale: int | None) -> dict[str, Tensor]:
    shape = (BATCH, VIEWS, grid**2, 3 * PATCH**2)
    mask = torch.ones(BATCH, VIEWS, dtype=torch.bool)
    mask[1, 1] = False
    text = torch.ones(BATCH, TEXT, dtype=torch.bool)
    text[2, 3:] = False
    images = (
        {"images": torch.randn(shape, generator=random)}
        if scale is None
        else {f"images_int8_x{scale}": torch.randint(-64, 64, shape, generator=random, dtype=torch.int8)}
    )
    return {
        **images,
        "img_masks": mask,
        "lang_masks": text,
        "lang_tokens": torch.randint(0, 50, (BATCH, TEXT), generator=random),
        "state": torch.randn(BATCH, DIMENSIONS, generator=random),
        "actions": torch.randn(BATCH, HORIZON, DIMENSIONS, generator=random),
        "noise": torch.randn(BATCH, HORIZON, DIMENSIONS, generator=random),
        "time": torch.rand(BATCH, generator=random),
        "depth_targets": torch.randn(BATCH * VIEWS, 12, 6, generator=random),
    }


def _weights(fixture: Fixture, random: torch.Generator) -> dict[str, Tensor]:
    config = policy_config(fixture.config, fixture.batch("inputs.safetensors"), "depth")
    state = Policy(config).state_dict()
    drawn = {name: 0.2 * torch.randn(tensor.shape, generator=random) for name, tensor in state.items()}
    return {name: tensor.contiguous() for name, tensor in released_state(config, drawn).items()}


def _outputs(fixture: Fixture, inputs: str, keys: list[str]) -> dict[str, Tensor]:
    batch = fixture.batch(inputs)
    runs = {variant: Run.of(fixture, batch, variant, ADAMW_STEPS) for variant in ("nodepth", "depth")}
    outputs = {}
    for name in keys:
        variant, key = split_variant(name)
        comparison = find(key)
        assert comparison, name
        ours = comparison.ours(runs[variant], key)
        assert ours, name
        value = ours.value.clone()
        if ours.rows is not None:
            value[~ours.rows] = GARBAGE
        outputs[name] = value.contiguous()
    return outputs


def _preprocessing(random: torch.Generator) -> dict[str, Tensor]:
    side = PATCH * LARGE_GRID
    given = {
        name: torch.randint(0, 256, (3, side, side), generator=random, dtype=torch.uint8)
        for name in ("raw_base", "raw_right")
    }
    given["norm_state_in"] = torch.randn(7, generator=random).double()
    given["q01_state"], given["q99_state"] = torch.full((7,), -2.0).double(), torch.full((7,), 1.5).double()
    placeholders = {"pixel_values": torch.zeros(3), "norm_state_out": torch.zeros(7)}
    ours = preprocess(CONFIG, {**given, **placeholders}).outputs
    return {**given, **{name: tensor.contiguous() for name, tensor in ours.items()}}
