"""Policy configurations: presets, round trip, and impossible values."""

import json
from dataclasses import replace

import pytest
import torch

from model.config import PRESETS, PolicyConfig, VisionConfig, preset
from model.errors import UserError
from model.vla.policy import Policy, parameter_count
from model.vla.towers import build_tower


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_released_sizes_have_the_released_number_of_parameters() -> None:
    # SPEC_VLA section 1.1; with depth the queries, which upstream loses, are counted too
    with torch.device("meta"):
        assert parameter_count(Policy(preset("lingbot_vla_4b"))) == 4_197_425_739
        with_depth = parameter_count(Policy(preset("lingbot_vla_4b_depth")))
    assert with_depth == 4_217_368_139 + 256 * 2048


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'demo'"):
        preset("dmeo")


def test_impossible_values_say_the_rule() -> None:
    with pytest.raises(UserError, match="image_size 100 .* multiple of 28"):
        VisionConfig(image_size=100)
    with pytest.raises(UserError, match="views is 0"):
        replace(preset("demo"), views=0)


@pytest.mark.parametrize("image_size", [56, 112, 168, 224])
def test_window_attention_keeps_to_its_windows(image_size: int) -> None:
    """A pixel moves the tokens of its own 112-px window only, and full attention moves all."""
    config = replace(
        preset("debug").vision, image_size=image_size, num_layers=1, full_attention_layers=(), learned_positions=False
    )
    patches = torch.randn(1, config.grid**2, 3 * config.patch_size**2, generator=torch.Generator().manual_seed(0))
    changed = patches.clone()
    changed[0, 0] += 1  # the top left patch
    side = min(4, config.grid // 2)  # merged tokens along a window
    for full in (False, True):
        tower = build_tower(replace(config, full_attention_layers=(0,) if full else ()), 8, "explicit")
        moved = (tower(changed) - tower(patches)).abs().amax(-1)[0] > 0
        moved = moved.view(config.grid // 2, config.grid // 2)
        inside = torch.zeros_like(moved)
        inside[:side, :side] = True
        assert torch.equal(moved, torch.ones_like(moved) if full else inside)
