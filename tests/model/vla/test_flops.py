"""FLOPs from the configuration: equal to what PyTorch counts in the real policy, and to the issue's figure."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.benchmark.batches import random_inputs, random_targets
from model.bundle import seeded_policy
from model.config import PolicyConfig, SensorConfig, preset
from model.vla.flops import PARTS, Workload, forward_flops, inference_products, step_flops, training_products
from model.vla.policy import Inputs, Schedule

DEBUG = preset("debug")
ACTION_ONLY = replace(DEBUG, depth=None, goal=None)
CONFIGS = {
    "depth and goal": DEBUG,
    "actions alone": ACTION_ONLY,
    "depth directly": replace(DEBUG, goal=None, depth=replace(DEBUG.depth, mode="direct")),
    "a sensor": replace(ACTION_ONLY, sensors=(SensorConfig(name="force", size=6, num_tokens=2),)),
    "causal": replace(ACTION_ONLY, text=replace(DEBUG.text, causal=True)),
    "windows cut at the border": replace(ACTION_ONLY, vision=replace(DEBUG.vision, image_size=84, window_size=56)),
}


def counted(config: PolicyConfig, work: Workload) -> tuple[int, int]:
    """FLOPs of the forward and of forward and backward, as PyTorch counts them."""
    policy = seeded_policy(config, 0).train()
    generator = torch.Generator().manual_seed(0)
    inputs = without_views(random_inputs(config, work.batch, generator), work.absent_views)
    targets = random_targets(config, work.batch, generator)
    noise = torch.randn(work.batch, work.draws, config.horizon, config.dimensions, generator=generator)
    with FlopCounterMode(display=False) as forward:
        losses = policy.losses(inputs, targets, noise, torch.rand(work.batch, work.draws, generator=generator))
    with FlopCounterMode(display=False) as backward:
        losses["total"].backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


def without_views(inputs: Inputs, absent: int) -> Inputs:
    mask = inputs.image_mask.clone()
    mask.view(-1)[:absent] = False
    return replace(inputs, image_mask=mask)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_step_has_the_flops_that_pytorch_counts(name: str) -> None:
    config, work = CONFIGS[name], Workload(batch=2, draws=3)
    products = training_products(config, work)
    forward, step = counted(config, work)
    assert sum(forward_flops(products).values()) == forward
    assert sum(step_flops(products, work).values()) == step


def test_absent_views_spare_their_tower_and_depth_head() -> None:
    work = Workload(batch=2, absent_views=4)
    assert sum(step_flops(training_products(DEBUG, work), work).values()) == counted(DEBUG, work)[1]


def test_an_inference_has_the_flops_that_pytorch_counts() -> None:
    policy, generator = seeded_policy(DEBUG, 0), torch.Generator().manual_seed(0)
    schedule = Schedule.of(policy, 4)
    noise = torch.randn(1, DEBUG.horizon, DEBUG.dimensions, generator=generator)
    with FlopCounterMode(display=False) as counter:
        policy.sample(random_inputs(DEBUG, 1, generator), noise, schedule=schedule)
    products = inference_products(DEBUG, Workload(), num_steps=4)
    assert sum(forward_flops(products).values()) == counter.get_total_flops()


def test_a_step_at_small_is_472_gflop() -> None:
    work = Workload(batch=4, model=True)
    total = sum(step_flops(training_products(preset("small"), work), work).values())
    assert round(total / 1e9) == 472


def test_draws_cost_the_expert_and_its_projections_alone() -> None:
    one, eight = (forward_flops(training_products(DEBUG, Workload(draws=k))) for k in (1, 8))
    assert {part for part in PARTS if one[part] != eight[part]} == {"expert", "projections"}


def test_what_a_policy_does_not_have_costs_nothing() -> None:
    parts = forward_flops(training_products(ACTION_ONLY, Workload()))
    assert {part for part in PARTS if not parts[part]} == {"depth", "goal", "sensors"}
