"""One trial: an actor in a simulated scene, by receding horizon, until success or the time limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.evaluation.actors import Actor, Look
from model.evaluation.records import Checkpoint

if TYPE_CHECKING:
    from model.simulation.environment import Simulation


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended. `reason` is None exactly when it succeeded; times are simulated seconds."""

    checkpoints: tuple[Checkpoint, ...]
    reason: str | None
    seconds: float
    looks: int


def fault(chunk: np.ndarray, width: int) -> str | None:
    """Why a chunk cannot be executed, or None. Only a finite array [T >= 1, width] can."""
    if not isinstance(chunk, np.ndarray) or chunk.ndim != 2 or chunk.shape[1] != width or len(chunk) == 0:
        return f"the policy returned shape {np.shape(chunk)}, not (steps, {width})"
    if not np.isfinite(chunk).all():
        return f"the policy returned {int((~np.isfinite(chunk)).sum())} values that are not finite"
    return None


def run_trial(
    simulation: "Simulation",
    actor: Actor,
    *,
    seed: int,
    instruction: str,
    checkpoints: Sequence[str],
    execute_steps: int,
    max_steps: int,
    watch: Callable[["Simulation"], None] | None = None,
) -> Outcome:
    """Run one trial from the scene of `seed`.

    The actor looks, `execute_steps` rows of its chunk are executed (fewer when the chunk is shorter), and it looks
    again. The trial ends with success, after `max_steps` control steps, or at once when the actor returns something
    that cannot be executed: that is a failure of the policy and the reason says so. `watch` sees the simulation before
    the first step and after every step.
    """
    simulation.reset(seed)
    if watch:
        watch(simulation)
    times: list[float] = []
    seconds, step, looks = 0.0, 0, 0

    def outcome(reason: str | None) -> Outcome:
        passed = tuple(
            Checkpoint(name=name, seconds=times[index] if index < len(times) else None)
            for index, name in enumerate(checkpoints)
        )
        return Outcome(checkpoints=passed, reason=reason, seconds=seconds, looks=looks)

    while step < max_steps:
        images = simulation.observe()["images"] if actor.needs_images else None
        state = simulation.state()
        chunk = actor.act(Look(images=images, state=state, instruction=instruction, seed=seed, step=step))
        looks += 1
        wrong = fault(chunk, len(state))
        if wrong:
            return outcome(f"{wrong} (look {looks}, step {step})")
        for action in chunk[: min(execute_steps, max_steps - step)]:
            result = simulation.step(action)
            step += 1
            seconds = round(float(result.time), 3)
            times += [seconds] * (result.checkpoints_passed - len(times))
            if watch:
                watch(simulation)
            if result.success:
                return outcome(None)
    return outcome(f"not done within the time limit of {seconds:g} s")
