"""What a Qwen2.5-VL `config.json` says, in the terms of our configuration.

Up to transformers 4.51 the language model's settings lie at the top, from 4.52 under `text_config`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.config import PolicyConfig
from model.errors import UserError

_TEXT = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "intermediate_size",
    "rms_norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
}
_VISION = {
    "hidden_size": "hidden_size",
    "depth": "num_layers",
    "num_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "spatial_merge_size": "spatial_merge_size",
    "window_size": "window_size",
    "fullatt_block_indexes": "full_attention_layers",
}


def qwen_sizes(config: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `VisionConfig` and of `TextConfig` that a Qwen2.5-VL `config.json` sets.

    Raises:
        UserError: it is of another family of models, or a part of it is no mapping.
    """
    family = config.get("model_type", "qwen2_5_vl")
    if family != "qwen2_5_vl":
        raise UserError(f"{path}: model_type is {family!r}: the backbone must be a Qwen2.5-VL ('qwen2_5_vl').")
    text, vision = config.get("text_config") or config, config.get("vision_config") or {}
    if not isinstance(text, Mapping) or not isinstance(vision, Mapping):
        raise UserError(f"{path}: text_config and vision_config must be mappings: fetch the file again.")
    text_fields = {ours: text[theirs] for theirs, ours in _TEXT.items() if theirs in text}
    if {"hidden_size", "num_heads"} <= text_fields.keys():
        text_fields["head_dim"] = text.get("head_dim") or text_fields["hidden_size"] // text_fields["num_heads"]
    vision_fields = {ours: vision[theirs] for theirs, ours in _VISION.items() if theirs in vision}
    if "full_attention_layers" in vision_fields:
        vision_fields["full_attention_layers"] = tuple(vision_fields["full_attention_layers"])
    return vision_fields, text_fields


def check_qwen_sizes(config: Mapping[str, Any], path: Path, policy: PolicyConfig) -> None:
    """UserError when a Qwen2.5-VL `config.json` and the policy's configuration disagree on a size; names each.

    The vocabulary may be larger in the file: checkpoints pad it, and the tensor's own rows decide.
    """
    vision, text = qwen_sizes(config, path)
    text.pop("vocab_size", None)
    problems = [
        f"{part} {name} {value}, not {getattr(ours, name)}"
        for part, values, ours in (("vision", vision, policy.vision), ("text", text, policy.text))
        for name, value in values.items()
        if value != getattr(ours, name)
    ]
    if problems:
        raise UserError(
            f"{path} has other sizes than preset '{policy.name}': {'; '.join(problems)}. "
            f"Choose the preset of this backbone, or the directory that the preset takes."
        )
