"""Export and import: nothing changes on the way, and the directory is as released."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from model.bundle import create_bundle
from model.config import PolicyConfig, preset
from model.errors import UserError
from model.released.exporting import export_released
from model.released.folder import read_policy_folder
from model.released.importing import import_released
from model.vla.released import DEPTH_QUERIES, released_shapes
from tests.model.released.conftest import write_policy


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize("shard_size", ["5GB", "50KB"])
def test_export_and_import_give_every_tensor_back_bit_by_bit(policy: Path, tmp_path: Path, shard_size: str) -> None:
    export_released(policy, tmp_path / "released", shard_size=shard_size)
    imported = import_released(tmp_path / "released", tmp_path / "imported")
    before, after = read_policy_folder(policy), read_policy_folder(tmp_path / "imported")
    assert same(dict(before.state), dict(after.state))
    assert imported.config == before.config
    assert imported.record["seeds"] == {} and imported.record["warnings"] == []


def test_a_bundle_with_parts_of_ours_survives_the_way(tmp_path: Path) -> None:
    bundle = create_bundle(tmp_path / "bundle", seed=3)
    done = export_released(bundle.path, tmp_path / "released")
    assert done.own_tensors > 0 and any("goal queries" in warning for warning in done.warnings)
    import_released(tmp_path / "released", tmp_path / "imported")
    after = read_policy_folder(tmp_path / "imported")
    assert after.config == bundle.config
    assert same(load_file(bundle.path / "model.safetensors"), dict(after.state))
    assert (tmp_path / "imported" / "tokenizer.json").read_bytes() == (bundle.path / "tokenizer.json").read_bytes()


def test_the_exported_names_are_exactly_the_released_ones(tmp_path: Path) -> None:
    bundle = create_bundle(tmp_path / "bundle")
    export_released(bundle.path, tmp_path / "released", shard_size="50KB")
    found = {name: tuple(tensor.shape) for name, tensor in tensors_in(tmp_path / "released").items()}
    released = replace(bundle.config, goal=None, vision=replace(bundle.config.vision, learned_positions=False))
    assert found == released_shapes(released)
    assert all(name.startswith("model.") for name in found) and DEPTH_QUERIES in found


def test_the_directory_has_the_released_files(policy: Path, config: PolicyConfig, tmp_path: Path) -> None:
    export_released(policy, tmp_path / "released", shard_size="100KB")
    names = {path.name for path in (tmp_path / "released").iterdir()}
    shards = {name for name in names if name.endswith(".safetensors")}
    assert names - shards == {
        "config.json", "lingbotvla_cli.yaml", "model.safetensors.index.json", "lingbot_pipelines",
    }  # fmt: skip
    count = len(shards)
    assert shards == {f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)} and count > 1
    assert json.loads((tmp_path / "released" / "config.json").read_text())["type"] == "pi0"
    training = yaml.safe_load((tmp_path / "released" / "lingbotvla_cli.yaml").read_text())
    assert set(training) == {"model", "data", "train"}
    assert training["train"]["max_action_dim"] == 75 and training["model"]["adanorm_time"] is True
    assert training["train"]["align_params"]["depth"]["num_backbone_tokens"] == config.depth.table_size


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_dtype_is_an_option(policy: Path, tmp_path: Path, dtype: str, expected: torch.dtype) -> None:
    export_released(policy, tmp_path / "released", dtype=dtype)
    written = tensors_in(tmp_path / "released")
    assert {tensor.dtype for tensor in written.values()} == {expected}
    enabled = yaml.safe_load((tmp_path / "released" / "lingbotvla_cli.yaml").read_text())["train"]["enable_fp32"]
    assert enabled is (dtype == "fp32")
    import_released(tmp_path / "released", tmp_path / "imported")
    state = read_policy_folder(tmp_path / "imported").state
    original = read_policy_folder(policy).state
    assert all(torch.equal(state[name], original[name].to(expected)) for name in original)


def test_a_released_directory_without_our_configuration_is_read_from_settings_and_shapes(
    policy: Path, config: PolicyConfig, tmp_path: Path
) -> None:
    export_released(policy, tmp_path / "released")
    for file in (tmp_path / "released" / "lingbot_pipelines").iterdir():
        file.unlink()
    imported = import_released(tmp_path / "released", tmp_path / "imported", preset_name="debug")
    assert imported.config == replace(
        config,
        name="released",
        flow=replace(config.flow, prediction="velocity"),
        depth=replace(config.depth, standardize=False),
    )
    assert set(imported.record["files"]) == {"config.json", "lingbotvla_cli.yaml", "model.safetensors"}


def test_missing_depth_queries_are_drawn_from_a_seed_that_is_recorded(policy: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    export_released(policy, tmp_path / "released")
    file = tmp_path / "released" / "model.safetensors"
    tensors = load_file(file)
    lost = tensors.pop(DEPTH_QUERIES)
    save_file(tensors, file)
    imported = import_released(tmp_path / "released", tmp_path / "imported", seed=5)
    record = json.loads((tmp_path / "imported" / "import.json").read_text())
    assert record == imported.record
    assert record["seeds"] == {DEPTH_QUERIES: 5}
    assert any("model.depth_align_embs is not in the checkpoint" in warning for warning in record["warnings"])
    drawn = read_policy_folder(tmp_path / "imported").state["modalities.depth.table"]
    expected = torch.randn(lost.shape, generator=torch.Generator().manual_seed(5))
    assert torch.equal(drawn, expected)
    other = import_released(tmp_path / "released", tmp_path / "other", seed=6)
    assert other.record["seeds"] == {DEPTH_QUERIES: 6}
    assert not torch.equal(read_policy_folder(tmp_path / "other").state["modalities.depth.table"], drawn)


def test_equal_sources_give_equal_bytes(policy: Path, tmp_path: Path) -> None:
    contents = []
    for number in "12":
        export_released(policy, tmp_path / f"e{number}", shard_size="100KB")
        import_released(tmp_path / f"e{number}", tmp_path / f"i{number}")
        contents.append(
            [
                {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
                for folder in (tmp_path / f"e{number}", tmp_path / f"i{number}")
            ]
        )
    assert contents[0] == contents[1]


def test_a_tensor_of_the_source_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = write_policy(tmp_path / "policy", preset("debug"))
    state["extra"] = state.pop("state_proj.bias")
    save_file(state, tmp_path / "policy" / "model.safetensors")
    with pytest.raises(UserError) as error:
        export_released(tmp_path / "policy", tmp_path / "released")
    assert "state_proj.bias is missing; extra is unknown" in str(error.value)
    assert not (tmp_path / "released").exists()


def test_a_target_that_holds_files_is_left_alone(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="full exists and is not an empty folder: give a new path"):
        export_released(policy, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "has no config.json: give a bundle"),
        ("{}", "has no 'policy': a released or Qwen2.5-VL directory goes through `lingbot checkpoint import"),
        ("[", "config.json is not valid JSON"),
    ],
)
def test_a_source_that_is_no_policy_is_named(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        export_released(tmp_path, tmp_path / "released")


def test_a_damaged_bundle_is_not_exported(tmp_path: Path) -> None:
    bundle = create_bundle(tmp_path / "bundle")
    (bundle.path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer.json is missing"):
        export_released(bundle.path, tmp_path / "released")
