"""Conditional flow matching: the only place that knows both time conventions (SPEC_VLA section 1.9).

Public time `s` runs from noise (0) to action (1), as in the paper: x_s = s * action + (1 - s) * noise and the target
velocity is action - noise. The released weights use t = 1 - s and predict noise - action; `released_time` converts
the time and the sign of the prediction, so weights are never negated.
"""

import math

import torch
from torch import Tensor

from model.config import FlowConfig

EPSILON_TIME = 1e-3  # released: t = 0.999 z + 0.001, so pure action (t = 0) is never drawn
MIN_REMAINING = 1e-3  # clean-action predictions divide by 1 - s, which is 1 / num_steps at an Euler schedule's end


def sample_time(config: FlowConfig, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Draws of s in [0, 1) of the configured distribution.

    `released` is Joehnk's ratio without its rejection step, the sampler that shaped the released weights (mean of t
    0.559); `beta` is the true Beta(1.5, 1) of t that it was meant to be; `uniform` is the paper's.
    """
    u = torch.rand(shape, generator=generator)
    if config.time_distribution == "uniform":
        return u
    if config.time_distribution == "beta":
        return 1 - ((1 - EPSILON_TIME) * u.pow(1 / 1.5) + EPSILON_TIME)
    first = u.pow(1 / 1.5)
    second = torch.rand(shape, generator=generator)
    return 1 - ((1 - EPSILON_TIME) * first / (first + second) + EPSILON_TIME)


def interpolate(action: Tensor, noise: Tensor, s: Tensor) -> Tensor:
    """Point of the path at s; `s` broadcasts over the trailing [T, D] axes."""
    s = s[..., None, None]
    return s * action + (1 - s) * noise


def released_time(s: Tensor) -> Tensor:
    """The released code's t for our s."""
    return 1 - s


def to_velocity(config: FlowConfig, predicted: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """Velocity d x / d s from what the network predicts at (x, s): a released velocity or the clean action."""
    if config.prediction == "velocity":
        return -predicted
    return (predicted - x) / (1 - s[..., None, None]).clamp_min(MIN_REMAINING)


def training_error(config: FlowConfig, predicted: Tensor, action: Tensor, noise: Tensor) -> Tensor:
    """Elementwise loss of the network's own target: noise - action (released sign), or the clean action."""
    target = noise - action if config.prediction == "velocity" else action
    return (predicted - target).abs() if config.loss == "l1" else (predicted - target).square()


def euler_schedule(num_steps: int) -> list[float]:
    """The s of each Euler step, computed from its index: an accumulated clock drifts in bf16."""
    return [i / num_steps for i in range(num_steps)]


def time_embedding(t: Tensor, size: int) -> Tensor:
    """Sinusoid of the released time t [...]: periods from 4e-3 to 4, sine half then cosine half (SPEC section 1.6)."""
    half = size // 2
    exponent = torch.linspace(0, 1, half, device=t.device, dtype=torch.float32)
    period = 4e-3 * (4.0 / 4e-3) ** exponent
    angle = t.float().unsqueeze(-1) * (2 * math.pi / period)  # in the released order: bit-equal
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
