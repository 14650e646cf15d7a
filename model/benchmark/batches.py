"""Random inputs and targets of a policy's shapes, all views and words present: what benchmarks and tests feed it."""

import torch

from model.config import PolicyConfig
from model.vla.inputs import Inputs, Targets


def random_inputs(config: PolicyConfig, batch: int, generator: torch.Generator) -> Inputs:
    """Images of noise, random words and states, for `batch` observations."""
    size, text = config.vision.image_size, config.text
    return Inputs(
        images=torch.randint(0, 256, (batch, config.views, size, size, 3), generator=generator, dtype=torch.uint8),
        image_mask=torch.ones(batch, config.views, dtype=torch.bool),
        tokens=torch.randint(0, text.vocab_size, (batch, text.max_length), generator=generator),
        token_mask=torch.ones(batch, text.max_length, dtype=torch.bool),
        state=torch.randn(batch, config.dimensions, generator=generator),
        sensors={s.name: torch.randn(batch, s.size, generator=generator) for s in config.sensors},
    )


def random_targets(config: PolicyConfig, batch: int, generator: torch.Generator, action_size: int = 14) -> Targets:
    """Random actions, `action_size` of their dimensions used, and a target for every loss that the policy has."""
    used = torch.arange(config.dimensions) < action_size
    depth = goal = None
    if config.depth:
        shape = (batch, config.views, config.depth.target_tokens, config.depth.target_channels)
        depth = torch.randn(shape, generator=generator)
    if config.goal:
        goal = torch.randn(batch, config.goal.dimensions, generator=generator)
    return Targets(
        actions=torch.randn(batch, config.horizon, config.dimensions, generator=generator) * used,
        step_mask=torch.ones(batch, config.horizon, dtype=torch.bool),
        dimension_mask=used.expand(batch, -1),
        depth_tokens=depth,
        depth_mask=torch.ones(batch, config.views, dtype=torch.bool) if config.depth else None,
        goal=goal,
        goal_mask=torch.ones(batch, dtype=torch.bool) if config.goal else None,
    )
