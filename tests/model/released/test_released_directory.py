"""A released directory, as the released code writes it, becomes a policy that gives the released numbers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from model.errors import UserError
from model.released.folder import read_policy_folder
from model.released.importing import import_released
from model.vla.policy import Inputs, Policy

SEEDED = "model.depth_align_embs"


@pytest.fixture
def directory(shared: Path, tmp_path: Path) -> Path:
    """The reference weights below `checkpoints/global_step_9/hf_ckpt`, the YAML at the top of the run."""
    facts = json.loads((shared / "parity" / "vla" / "config.json").read_text())
    folder = tmp_path / "run" / "checkpoints" / "global_step_9" / "hf_ckpt"
    folder.mkdir(parents=True)
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "config.json").write_text(json.dumps(facts["vlm"]))
    shutil.copy(shared / "parity" / "vla" / "weights.safetensors", folder / "model.safetensors")
    sizes = {name: facts["policy"][name] for name in ("max_state_dim", "max_action_dim", "chunk_size")}
    (folder / "config.json").write_text(json.dumps({"type": "pi0", **sizes}))
    training = {
        "model": {"tokenizer_path": str(tmp_path / "qwen"), "adanorm_time": True, "old_adanorm": True},
        "data": {"norm_type": "bounds_99_woclip"},
        "train": {"loss_type": "L1_fm", "tokenizer_max_length": 12, "align_params": facts["align_params"]},
    }
    (tmp_path / "run" / "lingbotvla_cli.yaml").write_text(yaml.safe_dump(training))
    return folder


def sampled(folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    read = read_policy_folder(folder)
    policy = Policy(read.config).eval()
    policy.load_state_dict(read.state, strict=True)
    given = Inputs(
        images=inputs["images"],
        image_mask=inputs["img_masks"].bool(),
        tokens=inputs["lang_tokens"].long(),
        token_mask=inputs["lang_masks"].bool(),
        state=inputs["state"],
    )
    return policy.sample(given, inputs["noise"], num_steps=10)


@pytest.mark.parametrize("variant", ["nodepth", "depth"])
def test_the_imported_policy_samples_the_released_actions(
    shared: Path, directory: Path, tmp_path: Path, variant: str
) -> None:
    file = directory / "model.safetensors"
    if variant == "nodepth":
        save_file({n: t for n, t in load_file(file).items() if not n.startswith("model.depth_align_")}, file)
    imported = import_released(directory, tmp_path / "imported")
    assert (imported.config.depth is None) == (variant == "nodepth")
    assert imported.record["normalization"] == {"norm_type": "bounds_99_woclip"}
    outputs = load_file(shared / "parity" / "vla" / "outputs.safetensors")
    actions = sampled(tmp_path / "imported", load_file(shared / "parity" / "vla" / "inputs.safetensors"))
    assert torch.allclose(actions, outputs[f"{variant}.sample.actions_10steps"], rtol=0, atol=2e-4)


def test_every_missing_extra_and_misshaped_tensor_is_listed_and_nothing_is_written(
    directory: Path, tmp_path: Path
) -> None:
    tensors = load_file(directory / "model.safetensors")
    expert = "model.qwenvl_with_expert.qwen_expert.model.layers.1.mlp"
    tensors[f"{expert}.up_proj.weight"] = tensors[f"{expert}.up_proj.weight"][:5].clone()
    tensors["model.extra"] = torch.zeros(1)
    del tensors["model.state_proj.bias"], tensors["model.depth_align_head.projector.proj_in1.bias"], tensors[SEEDED]
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(UserError) as error:
        import_released(directory, tmp_path / "imported")
    message = str(error.value)
    for part in (
        "2 tensors missing, 1 unexpected, 1 of the wrong shape",
        "missing      model.state_proj.bias [32]",
        "missing      model.depth_align_head.projector.proj_in1.bias [64]",
        "unexpected   model.extra [1]",
        f"wrong shape  {expert}.up_proj.weight [5, 32], must be [56, 32]",
    ):
        assert part in message
    assert not (tmp_path / "imported").exists()


def test_sizes_that_the_settings_and_the_tensors_tell_differently_are_named(directory: Path, tmp_path: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"type": "pi0", "max_state_dim": 32, "max_action_dim": 32}))
    with pytest.raises(UserError, match=r"wrong shape  model.state_proj.weight \[32, 11\], must be \[32, 32\]"):
        import_released(directory, tmp_path / "imported")
