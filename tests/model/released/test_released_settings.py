"""What a released directory says about its policy, and which of it is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open

from model.config import PRESETS, preset
from model.errors import UserError
from model.released.configuration import policy_config
from model.released.settings import ReleasedSettings, read_settings

# As the README of the released code has it, shortened to what matters here.
TRAINING: dict[str, dict[str, Any]] = {
    "model": {"tokenizer_path": "path/to/Qwen2.5-VL-3B-Instruct", "adanorm_time": True, "old_adanorm": True},
    "data": {"norm_type": "bounds_99_woclip", "norm_stats_file": "assets/norm_stats/robotwin_50.json"},
    "train": {
        "loss_type": "L1_fm",
        "tokenizer_max_length": 24,
        "action_dim": 14,
        "max_action_dim": 75,
        "max_state_dim": 75,
        "enable_fp32": True,
    },
}
ALIGN = {
    "mode": "query",
    "num_task_tokens": 8,
    "use_contrastive": True,
    "depth_loss_weight": 0.002,
    "llm": {"dim_out": 2048, "image_token_size": 8, "image_input_size": 224},
    "depth": {"num_heads": 4, "dim_head": 32, "ff_mult": 1, "num_backbone_tokens": 256, "dim_out": 1024},
}


def write(folder: Path, config: dict[str, Any] | None, training: dict[str, Any] | None) -> Path:
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if training is not None:
        (folder / "lingbotvla_cli.yaml").write_text(yaml.safe_dump(training))
    return folder


def shapes_of(shared: Path, name: str) -> dict[str, list[int]]:
    return json.loads((shared / "reference" / f"state_dict_4b_{name}.json").read_text())


@pytest.mark.parametrize(("file", "name"), [("nodepth", "lingbot_vla_4b"), ("depth", "lingbot_vla_4b_depth")])
@pytest.mark.parametrize("given", ["both", "config", "nothing"])
def test_the_released_sizes_are_those_of_the_presets(
    shared: Path, tmp_path: Path, file: str, name: str, given: str
) -> None:
    training = {**TRAINING, "train": TRAINING["train"] | ({"align_params": ALIGN} if file == "depth" else {})}
    config = {"type": "pi0", "max_state_dim": 75, "max_action_dim": 75, "chunk_size": 50, "tokenizer_max_length": 24}
    write(tmp_path, None if given == "nothing" else config, training if given == "both" else None)
    settings = read_settings(tmp_path)
    read, warnings = policy_config(settings, shapes_of(shared, file), preset("lingbot_vla_4b_depth"))
    expected = preset(name)
    if given == "both" and expected.depth:
        expected = replace(expected, depth=replace(expected.depth, weight=0.002))
    assert read == expected
    assert warnings == []


def test_the_yaml_counts_before_the_json_and_both_before_the_preset(shared: Path, tmp_path: Path) -> None:
    config = {"type": "pi0", "tokenizer_max_length": 48, "chunk_size": 30, "max_state_dim": 32, "max_action_dim": 32}
    training = {**TRAINING, "train": TRAINING["train"] | {"tokenizer_max_length": 72, "vlm_causal": True}}
    training["train"]["loss_type"] = "fm"
    settings = read_settings(write(tmp_path, config, training))
    read, _ = policy_config(settings, shapes_of(shared, "nodepth"), preset("lingbot_vla_4b"))
    assert (read.text.max_length, read.text.causal, read.horizon, read.flow.loss) == (72, True, 30, "l2")
    assert read.dimensions == 75
    assert settings.origins["chunk_size"] == tmp_path / "config.json"
    assert settings.origins["vlm_causal"] == tmp_path / "lingbotvla_cli.yaml"


def test_the_yaml_may_lie_three_levels_up(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints" / "global_step_9" / "hf_ckpt"
    directory.mkdir(parents=True)
    write(tmp_path, None, TRAINING)
    assert read_settings(directory).files == (tmp_path / "lingbotvla_cli.yaml",)
    write(directory, None, TRAINING)
    assert read_settings(directory).files == (directory / "lingbotvla_cli.yaml",)


def test_other_sizes_come_from_the_backbone_that_the_yaml_names(shared: Path, tmp_path: Path) -> None:
    """The reference fixture: no preset has its sizes."""
    facts = json.loads((shared / "parity" / "vla" / "config.json").read_text())
    with safe_open(shared / "parity" / "vla" / "weights.safetensors", framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    (tmp_path / "qwen").mkdir()
    write(tmp_path / "qwen", facts["vlm"], None)
    training = {
        "model": {"tokenizer_path": str(tmp_path / "qwen"), "adanorm_time": True},
        "data": {},
        "train": facts["policy"] | {"align_params": facts["align_params"], "loss_type": "L1_fm"},
    }
    read, _ = policy_config(read_settings(write(tmp_path, None, training)), shapes, preset("lingbot_vla_4b_depth"))
    assert (read.name, read.dimensions, read.horizon) == ("released", 11, 10)
    text, vision = read.text, read.vision
    assert (text.hidden_size, text.num_layers, text.num_heads, text.num_kv_heads, text.head_dim) == (64, 3, 4, 2, 16)
    assert (vision.hidden_size, vision.num_layers, vision.num_heads, vision.image_size) == (32, 4, 2, 168)
    assert vision.full_attention_layers == (1, 3) and vision.spatial_merge_size == 2
    assert (read.expert.hidden_size, read.expert.intermediate_size) == (32, 56)
    assert read.depth is not None
    assert (read.depth.table_size, read.depth.num_queries, read.depth.target_channels) == (36, 4, 24)
    write(tmp_path, None, {**training, "model": {}})
    with pytest.raises(UserError, match="heads of a language model with hidden size 64 and 3 layers .*--preset"):
        policy_config(read_settings(tmp_path), shapes, preset("lingbot_vla_4b_depth"))


def test_depth_settings_without_depth_tensors_are_a_warning(shared: Path, tmp_path: Path) -> None:
    """As the released post-trained depth checkpoint was for a while."""
    training = {**TRAINING, "train": {"align_params": ALIGN}}
    settings = read_settings(write(tmp_path, None, training))
    read, warnings = policy_config(settings, shapes_of(shared, "nodepth"), preset("lingbot_vla_4b_depth"))
    assert read.depth is None and read.name == "lingbot_vla_4b"
    assert warnings == ["align_params asks for depth alignment, but no tensor is named model.depth_align_*: "
                        "imported without it"]  # fmt: skip


def test_one_misshaped_layer_does_not_change_the_configuration(shared: Path) -> None:
    shapes = shapes_of(shared, "nodepth")
    shapes["model.qwenvl_with_expert.qwenvl.model.layers.0.mlp.gate_proj.weight"] = [11007, 2048]
    shapes["model.qwenvl_with_expert.qwen_expert.model.layers.0.mlp.gate_proj.weight"] = [1, 768]
    del shapes["model.qwenvl_with_expert.qwenvl.model.layers.35.input_layernorm.weight"]
    read, _ = policy_config(ReleasedSettings(), shapes, preset("lingbot_vla_4b"))
    assert read == PRESETS["lingbot_vla_4b"]


def test_tensors_of_another_model_are_named() -> None:
    with pytest.raises(UserError, match=r"no tensor is named model.qwenvl_with_expert.\* \(the first is lm_head"):
        policy_config(ReleasedSettings(), {"lm_head.weight": [1], "model.norm.weight": [1]}, preset("small"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"vlm_family": "qwen3_vl"}, "this is LingBot-VLA 2.*give a checkpoint of LingBot-VLA 1"),
        ({"model_type": "qwen2_5_vl"}, "import it with --from qwen2_5_vl --preset NAME"),
        ({"schema_version": 1, "policy": {}}, "is of a policy's folder of ours: it needs no import"),
        ({"type": "smolvla"}, "type is 'smolvla': a released LingBot-VLA has 'pi0'"),
        ({"chunk_size": "50"}, "config.json: chunk_size is '50': it must be a whole number above 0"),
        ({"max_state_dim": 32, "max_action_dim": 75}, "max_state_dim 32 and max_action_dim 75 differ"),
    ],
)
def test_a_wrong_config_is_named(shared: Path, tmp_path: Path, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        settings = read_settings(write(tmp_path, config, None))
        policy_config(settings, shapes_of(shared, "nodepth"), preset("lingbot_vla_4b"))


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("train", {"norm_qkv": True}, "sets norm_qkv: no released checkpoint does"),
        ("model", {"separate_time_proj": True, "final_norm_adanorm": True}, "separate_time_proj, final_norm_adanorm"),
        ("model", {"adanorm_time": False}, "adanorm_time false: this policy's expert is conditioned on time"),
        ("train", {"loss_type": "huber"}, "loss_type is 'huber': this policy has L1_fm, fm"),
        ("train", {"align_params": [1]}, r"align_params is \[1\]: it must be a mapping"),
        ("train", {"align_params": {"mode": "direct"}}, "mode is 'direct': this policy has query"),
        ("train", {"align_params": {"depth_loss_weight": -1}}, "depth_loss_weight is -1: it must be 0 or more"),
    ],
)
def test_a_wrong_training_argument_is_named(
    shared: Path, tmp_path: Path, section: str, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        settings = read_settings(write(tmp_path, None, {**TRAINING, section: TRAINING[section] | values}))
        policy_config(settings, shapes_of(shared, "depth"), preset("lingbot_vla_4b_depth"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a: [", "is not valid YAML"), ("- 1", "must hold the sections model, data, train"), ("train: 3", "must hold")],
)
def test_a_broken_yaml_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "lingbotvla_cli.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_settings(tmp_path)
