"""The released tensor names and shapes, both ways."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.bundle import seeded_policy
from model.config import PolicyConfig, preset
from model.errors import UserError
from model.vla.released import (
    DEPTH_QUERIES,
    EXTRAS,
    lacks_depth_queries,
    policy_state,
    released_name,
    released_shapes,
    released_state,
)

CONFIG = preset("debug")


def reference(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    listed = json.loads((shared / "reference" / f"state_dict_4b_{name}.json").read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return seeded_policy(CONFIG, 0).state_dict()


@pytest.fixture
def tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return released_state(CONFIG, state)


def test_4b_has_the_released_names_and_shapes(shared: Path) -> None:
    assert released_shapes(preset("lingbot_vla_4b")) == reference(shared, "nodepth")


def test_4b_with_depth_has_the_released_names_and_shapes_and_its_queries(shared: Path) -> None:
    wanted = reference(shared, "depth") | {"model.depth_align_embs": (256, 2048)}
    assert released_shapes(preset("lingbot_vla_4b_depth")) == wanted


@pytest.mark.parametrize(
    ("ours", "released"),
    [
        ("modalities.views.tower.patch_embed.weight", "model.qwenvl_with_expert.qwenvl.visual.patch_embed.proj.weight"),
        ("modalities.views.tower.merger.mlp.2.bias", "model.qwenvl_with_expert.qwenvl.visual.merger.mlp.2.bias"),
        ("modalities.language.embed_tokens.weight", "model.qwenvl_with_expert.qwenvl.model.embed_tokens.weight"),
        ("backbone.norm.weight", "model.qwenvl_with_expert.qwenvl.model.norm.weight"),
        (
            "expert.layers.1.input_layernorm.gamma.bias",
            "model.qwenvl_with_expert.qwen_expert.model.layers.1.input_layernorm.gamma.bias",
        ),
        ("action_time_mlp_in.weight", "model.action_time_mlp_in.weight"),
        ("modalities.depth.table", "model.depth_align_embs"),
        ("modalities.depth.attention.to_kv.weight", "model.depth_align_head.projector.layers.0.0.to_kv.weight"),
        ("modalities.depth.feed_forward.3.weight", "model.depth_align_head.projector.layers.0.1.3.weight"),
        ("modalities.goal.readout.0.weight", "lingbot_pipelines.modalities.goal.readout.0.weight"),
        ("modalities.views.tower.positions", "lingbot_pipelines.modalities.views.tower.positions"),
        ("modalities.force.projection.weight", "lingbot_pipelines.modalities.force.projection.weight"),
    ],
)
def test_names_follow_the_table(ours: str, released: str) -> None:
    assert released_name(ours) == released


def test_round_trip_loses_nothing(state: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    back = policy_state(CONFIG, tensors)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_round_trip_carries_what_was_never_released(tensors: dict[str, Tensor]) -> None:
    ours = {name.split(".")[2] for name in tensors if name.startswith(EXTRAS)}
    assert ours == {"goal", "views"}  # the goal head and the learned positions of `debug`


def test_patch_embedding_is_channel_time_row_column(state: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    vision = CONFIG.vision
    convolution = tensors["model.qwenvl_with_expert.qwenvl.visual.patch_embed.proj.weight"]
    patch = torch.randn(3, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    by_convolution = torch.nn.functional.conv3d(patch[None], convolution).flatten()
    ours = state["modalities.views.tower.patch_embed.weight"] @ patch.flatten()
    torch.testing.assert_close(ours, by_convolution, atol=1e-5, rtol=1e-5)


def test_gradients_take_the_released_names_too() -> None:
    gradient = torch.ones(CONFIG.expert.hidden_size)
    assert list(released_state(CONFIG, {"state_proj.bias": gradient})) == ["model.state_proj.bias"]


def test_every_misfit_is_listed_with_its_shapes(tensors: dict[str, Tensor]) -> None:
    del tensors["model.state_proj.bias"], tensors["model.action_in_proj.bias"]
    tensors["model.lm_head.weight"] = torch.zeros(2, 3)
    tensors["model.action_out_proj.bias"] = torch.zeros(14)
    with pytest.raises(UserError) as caught:
        policy_state(CONFIG, tensors)
    lines = {line.strip() for line in str(caught.value).splitlines()[1:]}
    assert lines == {
        "missing      model.state_proj.bias [32]",
        "missing      model.action_in_proj.bias [32]",
        "unexpected   model.lm_head.weight [2, 3]",
        "wrong shape  model.action_out_proj.bias [14], must be [75]",
    }
    assert "2 tensors missing, 1 unexpected, 1 of the wrong shape" in str(caught.value)


def without_depth(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if "depth_align" not in name}


def test_a_checkpoint_without_depth_names_the_configuration(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="choose a configuration without `depth`"):
        policy_state(CONFIG, without_depth(tensors), depth_seed=0)


def test_a_checkpoint_with_depth_names_the_configuration(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="choose a configuration with `depth`"):
        policy_state(replace(CONFIG, depth=None), tensors)


def test_an_unconverted_checkpoint_says_so(state: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="of another layout"):
        policy_state(CONFIG, state)


def test_missing_depth_queries_are_an_error_by_default(tensors: dict[str, Tensor]) -> None:
    del tensors[DEPTH_QUERIES]
    with pytest.raises(UserError, match="Give a depth seed"):
        policy_state(CONFIG, tensors)


def test_missing_depth_queries_are_drawn_from_the_seed(tensors: dict[str, Tensor]) -> None:
    shape = tensors.pop(DEPTH_QUERIES).shape
    table = policy_state(CONFIG, tensors, depth_seed=7)["modalities.depth.table"]
    assert torch.equal(table, torch.randn(shape, generator=torch.Generator().manual_seed(7)))


def test_drawn_depth_queries_have_the_checkpoint_s_precision(tensors: dict[str, Tensor]) -> None:
    rounded = {name: tensor.bfloat16() for name, tensor in tensors.items() if name != DEPTH_QUERIES}
    assert policy_state(CONFIG, rounded, depth_seed=7)["modalities.depth.table"].dtype == torch.bfloat16


def test_saved_depth_queries_are_kept_whatever_the_seed(state: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    assert torch.equal(
        policy_state(CONFIG, tensors, depth_seed=7)["modalities.depth.table"], state["modalities.depth.table"]
    )


@pytest.mark.parametrize(("config", "lacks"), [(CONFIG, True), (replace(CONFIG, depth=None), False)])
def test_only_a_policy_with_depth_can_lack_its_queries(
    config: PolicyConfig, lacks: bool, tensors: dict[str, Tensor]
) -> None:
    assert lacks_depth_queries(config, without_depth(tensors)) is lacks
    assert not lacks_depth_queries(config, tensors)
