"""Flow matching: both conventions are one path, and the samplers draw what they are named for."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import FlowConfig
from model.vla import flow

VELOCITY = FlowConfig(prediction="velocity")
CLEAN = FlowConfig(prediction="clean_action")


def test_the_path_runs_from_noise_to_action() -> None:
    action, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(flow.interpolate(action, noise, torch.zeros(2)), noise)
    assert torch.equal(flow.interpolate(action, noise, torch.ones(2)), action)


@settings(deadline=None)
@given(s=st.floats(0, 0.94), seed=st.integers(0, 1000))
def test_perfect_predictions_of_both_kinds_give_the_same_velocity(s: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    action, noise = (torch.randn(1, 3, 4, generator=random) for _ in range(2))
    time = torch.tensor([s])
    x = flow.interpolate(action, noise, time)
    from_velocity = flow.to_velocity(VELOCITY, noise - action, x, time)
    from_clean = flow.to_velocity(CLEAN, action, x, time)
    torch.testing.assert_close(from_velocity, action - noise)
    torch.testing.assert_close(from_clean, action - noise, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("config", [VELOCITY, CLEAN])
@pytest.mark.parametrize("num_steps", [1, 4, 10, 50])
def test_euler_with_perfect_predictions_arrives_at_the_action(config: FlowConfig, num_steps: int) -> None:
    action, x = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    noise = x
    schedule = flow.euler_schedule(num_steps)
    assert len(schedule) == num_steps
    for s in schedule:
        predicted = noise - action if config is VELOCITY else action
        x = x + flow.to_velocity(config, predicted, x, torch.tensor([s])) / num_steps
    torch.testing.assert_close(x, action, atol=1e-4, rtol=1e-4)


def test_a_perfect_prediction_has_no_error_and_a_wrong_one_has() -> None:
    action, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for config in (VELOCITY, CLEAN, replace(CLEAN, loss="l1")):
        target = noise - action if config is VELOCITY else action
        assert not flow.training_error(config, target, action, noise).any()
        wrong = flow.training_error(config, target + 2, action, noise)
        torch.testing.assert_close(wrong, torch.full_like(wrong, 2.0 if config.loss == "l1" else 4.0))


@pytest.mark.parametrize(
    ("distribution", "mean"),
    # of the released t = 1 - s: uniform 1/2; Beta(1.5, 1) has mean 0.6; the released sampler's was measured as 0.559
    [("uniform", 0.5), ("beta", 0.6), ("released", 0.559)],
)
def test_time_distributions_have_their_means(distribution: str, mean: float) -> None:
    config = FlowConfig(time_distribution=distribution)  # type: ignore[arg-type]
    s = flow.sample_time(config, (200_000,), torch.Generator().manual_seed(0))
    assert s.min() >= 0 and s.max() <= 1
    assert abs((1 - s).mean().item() - mean) < 0.003  # standard error below 0.0007


def test_time_embedding_is_sine_then_cosine_over_the_periods() -> None:
    embedded = flow.time_embedding(torch.tensor([0.5]), 8)
    periods = [4e-3 * 1000 ** (i / 3) for i in range(4)]
    angles = torch.tensor([2 * torch.pi * 0.5 / p for p in periods])
    torch.testing.assert_close(embedded[0], torch.cat([angles.sin(), angles.cos()]), atol=1e-3, rtol=0)
