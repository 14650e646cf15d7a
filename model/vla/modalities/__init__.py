"""The modalities of a policy, in the order of its prefix: views, queries, sensors, language (SPEC_VLA section 1.2)."""

from collections.abc import Callable

from model.config import PolicyConfig, SensorConfig
from model.errors import UserError, unknown_name
from model.vla.modalities.base import Modality
from model.vla.modalities.depth import DepthAlignment, DirectDepthAlignment
from model.vla.modalities.goal import GoalHead
from model.vla.modalities.language import Language
from model.vla.modalities.sensor import VectorSensor
from model.vla.modalities.views import Views
from model.vla.towers import Tower

SENSORS: dict[str, Callable[[SensorConfig, int], Modality]] = {"vector": VectorSensor}


def build_modalities(config: PolicyConfig, tower: Tower, language: Language, attention: str) -> dict[str, Modality]:
    """By name, in prefix order."""
    size = config.text.hidden_size
    parts: dict[str, Modality] = {"views": Views(config.views, tower)}
    if config.depth:
        if config.depth.mode == "query":
            parts["depth"] = DepthAlignment(config.depth, config.views, size, attention)
        else:
            parts["depth"] = DirectDepthAlignment(config.depth, config.views, size)
    if config.goal:
        parts["goal"] = GoalHead(config.goal, config.views, config.vision.tokens_per_view, size)
    for sensor in config.sensors:
        if sensor.kind not in SENSORS:
            raise unknown_name("sensor kind", sensor.kind, SENSORS)
        if sensor.name in parts or sensor.name == "language":
            raise UserError(f"sensor name '{sensor.name}' is taken by another modality: choose another name.")
        parts[sensor.name] = SENSORS[sensor.kind](sensor, size)
    parts["language"] = language
    return parts
