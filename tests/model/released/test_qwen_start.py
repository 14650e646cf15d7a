"""A policy that starts from a Qwen2.5-VL directory, of both generations of names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.bundle import seeded_policy
from model.config import PRESETS, preset
from model.errors import UserError
from model.released.folder import read_policy_folder
from model.released.importing import import_qwen
from model.vla.released import released_state

VLM = "model.qwenvl_with_expert.qwenvl."
CONFIG = preset("debug")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 512,
    "rms_norm_eps": 1e-6,
}
VISION = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 14,
    "temporal_patch_size": 1,
    "window_size": 112,
    "fullatt_block_indexes": [1],
}


def backbone(seed: int) -> dict[str, torch.Tensor]:
    """The tensors of a backbone under the older names, which the released ones follow."""
    state = seeded_policy(CONFIG, seed).state_dict()
    released = released_state(CONFIG, state)
    return {name.removeprefix(VLM): tensor for name, tensor in released.items() if name.startswith(VLM)}


def newer(name: str) -> str:
    return f"model.{name}" if name.startswith("visual.") else name.replace("model.", "model.language_model.", 1)


def write(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", **config}))
    return folder


@pytest.mark.parametrize("generation", ["4.51", "4.52"])
def test_backbone_tower_and_embeddings_are_qwen_s_and_the_rest_is_its_own(tmp_path: Path, generation: str) -> None:
    tensors = backbone(seed=7)
    if generation == "4.52":
        source = write(
            tmp_path / "qwen",
            {newer(name): tensor for name, tensor in tensors.items()} | {"lm_head.weight": torch.zeros(512, 32)},
            {"text_config": TEXT, "vision_config": VISION},
        )
    else:
        source = write(tmp_path / "qwen", tensors, {**TEXT, "vision_config": VISION})
    imported = import_qwen(source, tmp_path / "imported", preset_name="debug", seed=3)
    state = read_policy_folder(tmp_path / "imported").state
    theirs, fresh = seeded_policy(CONFIG, 7).state_dict(), seeded_policy(CONFIG, 3).state_dict()
    taken = ("backbone.", "modalities.views.tower.", "modalities.language.")
    positions = "modalities.views.tower.positions"  # ours, Qwen2.5-VL has none
    for name, tensor in state.items():
        source_state = theirs if name.startswith(taken) and name != positions else fresh
        assert torch.equal(tensor, source_state[name]), name
    assert imported.record["naming"].endswith(generation)
    assert imported.record["warnings"] == [] and imported.record["preset"] == "debug"
    assert set(imported.record["seeds"].values()) == {3}
    assert len(imported.record["seeds"]) == len(state) - len(tensors)


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    """Its own model, saved by it (the names of the hub) and as its modules are called now."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = {"bos_token_id": 0, "eos_token_id": 1}
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    config = Qwen2_5_VLConfig(text_config=TEXT | tokens | rope, vision_config=VISION, tie_word_embeddings=True)
    torch.manual_seed(0)
    qwen = Qwen2_5_VLForConditionalGeneration(config)
    qwen.save_pretrained(tmp_path / "saved")
    state = {name: tensor.clone() for name, tensor in qwen.state_dict().items()}
    write(tmp_path / "modules", state)
    for name in ("saved", "modules"):
        import_qwen(tmp_path / name, tmp_path / f"imported_{name}", preset_name="debug")
    saved, modules = (read_policy_folder(tmp_path / f"imported_{name}").state for name in ("saved", "modules"))
    assert all(torch.equal(saved[name], modules[name]) for name in saved)
    embeddings = qwen.get_input_embeddings().weight
    assert torch.equal(saved["modalities.language.embed_tokens.weight"], embeddings)
    weight = qwen.model.visual.patch_embed.proj.weight
    assert torch.equal(saved["modalities.views.tower.patch_embed.weight"], weight.flatten(1))


def test_bf16_weights_become_the_policy_s_dtype(tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in backbone(seed=7).items()}
    imported = import_qwen(write(tmp_path / "qwen", tensors), tmp_path / "imported", preset_name="debug")
    state = read_policy_folder(tmp_path / "imported").state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["backbone.norm.weight"], tensors["model.norm.weight"].float())
    assert imported.record["warnings"] == [
        "config.json is missing: head counts and window sizes could not be compared with the preset"
    ]


def test_missing_unexpected_and_misshaped_tensors_are_listed_under_their_own_names(tmp_path: Path) -> None:
    tensors = {newer(name): tensor for name, tensor in backbone(seed=7).items()}
    tensors["model.visual.deepstack.weight"] = torch.zeros(1)
    del tensors["model.language_model.norm.weight"]
    tensors["model.language_model.embed_tokens.weight"] = torch.zeros(500, 32)
    with pytest.raises(UserError) as error:
        import_qwen(write(tmp_path / "qwen", tensors), tmp_path / "imported", preset_name="debug")
    for part in (
        "1 tensors missing, 1 unexpected, 1 of the wrong shape. Choose the preset of this backbone",
        "missing      model.language_model.norm.weight",
        "unexpected   model.visual.deepstack.weight [1]",
        "wrong shape  model.language_model.embed_tokens.weight [500, 32], must be [512, 32]",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {**TEXT, "num_attention_heads": 4, "vision_config": VISION | {"fullatt_block_indexes": [0]}},
            r"vision full_attention_layers \(0,\), not \(1,\); text num_heads 4, not 2; text head_dim 8, not 16",
        ),
        ({"text_config": [1]}, "text_config and vision_config must be mappings"),
        ({"model_type": "qwen3_vl"}, "model_type is 'qwen3_vl': the backbone must be a Qwen2.5-VL"),
    ],
)
def test_a_config_that_disagrees_with_the_preset_is_named(
    tmp_path: Path, config: dict[str, Any], sentence: str
) -> None:
    source = write(tmp_path / "qwen", backbone(seed=7), config)
    with pytest.raises(UserError, match=sentence):
        import_qwen(source, tmp_path / "imported", preset_name="debug")


def test_a_preset_with_another_backbone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(CONFIG, text=replace(CONFIG.text, kind="qwen3"))
    monkeypatch.setitem(PRESETS, "other", other)
    with pytest.raises(UserError, match="preset 'debug' has a 'qwen2_5_vl' tower and a 'qwen3' backbone"):
        import_qwen(write(tmp_path / "qwen", backbone(seed=7)), tmp_path / "imported", preset_name="other")
