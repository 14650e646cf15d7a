"""Vision towers by the name that a configuration gives (`vision.kind`)."""

from collections.abc import Callable

from model.config import VisionConfig
from model.errors import unknown_name
from model.vla.towers.base import Tower
from model.vla.towers.qwen2_5_vl import QwenTower

__all__ = ["TOWERS", "Tower", "build_tower"]

TOWERS: dict[str, Callable[[VisionConfig, int, str], Tower]] = {"qwen2_5_vl": QwenTower}


def build_tower(config: VisionConfig, out_size: int, attention: str) -> Tower:
    """A tower of `out_size` channels; `attention` names the back end."""
    if config.kind not in TOWERS:
        raise unknown_name("vision kind", config.kind, TOWERS)
    return TOWERS[config.kind](config, out_size, attention)
