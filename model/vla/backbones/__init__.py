"""Language backbones by the name that a configuration gives (`text.kind`)."""

from collections.abc import Callable

from model.config import TextConfig
from model.errors import unknown_name
from model.vla.backbones.base import Backbone
from model.vla.backbones.qwen2_5 import QwenBackbone

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

BACKBONES: dict[str, Callable[[TextConfig], Backbone]] = {"qwen2_5": QwenBackbone}


def build_backbone(config: TextConfig) -> Backbone:
    if config.kind not in BACKBONES:
        raise unknown_name("text kind", config.kind, BACKBONES)
    return BACKBONES[config.kind](config)
