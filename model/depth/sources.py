"""Where the teacher's depth comes from, by name; name and version are part of the key of every token.

sensor       recorded by the robot's depth cameras, read from the dataset
simulation   rendered by a simulator when the dataset was collected, read from the dataset: without noise or holes
monocular    estimated from colour by a metric depth model (model/depth/monocular.py), as LingBot-VLA does
auto         sensor or simulation, whichever the dataset has; no tokens where it has neither
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.errors import UserError, unknown_name

AUTO, SENSOR, SIMULATION, MONOCULAR = "auto", "sensor", "simulation", "monocular"
DEPTH_SOURCES = (AUTO, SENSOR, SIMULATION, MONOCULAR)
RECORDED = "recorded, millimetres to metres"

Estimator = Callable[[np.ndarray], np.ndarray]  # uint8 [B, S, S, 3] to float32 metres [B, S, S], 0 = none


@dataclass(frozen=True, kw_only=True)
class DepthSource:
    """One source.

    Attributes:
        version: what made the depth: the simulator, or the model with the digest of its weights.
        estimate: depth of square views; None where depth is recorded.
    """

    name: str
    version: str
    estimate: Estimator | None = None


def resolve_depth_source(name: str, *, robot_id: str, simulator: str | None, has_depth: bool) -> str | None:
    """The source that is used for a dataset; None when `auto` finds no depth.

    Args:
        simulator: of the dataset's robot, None for a real one.
        has_depth: the dataset has depth for at least one of the robot's cameras.

    Raises:
        UserError: no such source, or the dataset has no depth of that kind.
    """
    if name not in DEPTH_SOURCES:
        raise unknown_name("depth source", name, DEPTH_SOURCES)
    if name == MONOCULAR:
        return name
    if name == AUTO:
        return None if not has_depth else SIMULATION if simulator else SENSOR
    if not has_depth:
        raise UserError(
            f"the depth source is '{name}', but the dataset has no depth for the cameras of robot '{robot_id}': "
            "record depth, set extract_depth_tokens.depth_source=monocular, or =auto to go on without depth tokens"
        )
    if name == SIMULATION and not simulator:
        raise UserError(
            f"the depth source is 'simulation', but robot '{robot_id}' has no simulator: its depth is recorded by "
            "sensors, set extract_depth_tokens.depth_source=sensor"
        )
    return name


def load_depth_source(name: str, *, simulator: str | None = None, model: str = "") -> DepthSource:
    """The source of that resolved name, with its depth model loaded where it needs one.

    Args:
        simulator: that rendered the depth, for the source simulation.
        model: a local folder of a metric depth model, for the source monocular; empty takes MoGe-2.

    Raises:
        UserError: no such source, or its depth model is missing or not metric.
    """
    if name == MONOCULAR:
        from model.depth.monocular import load_estimator

        estimate, version = load_estimator(model)
        return DepthSource(name=name, version=version, estimate=estimate)
    if name == SIMULATION:
        assert simulator, "the source simulation comes from a simulator"
        return DepthSource(name=name, version=f"{simulator}, {RECORDED}")
    if name != SENSOR:
        raise unknown_name("depth source", name, (SENSOR, SIMULATION, MONOCULAR))
    return DepthSource(name=name, version=RECORDED)
