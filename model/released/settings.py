"""Reads what a released directory says about its policy: `config.json` and `lingbotvla_cli.yaml`.

`config.json` is LeRobot's `PI0Config` (`type: pi0`; its fields were trimmed over time), the YAML holds the arguments of
the training that wrote the weights, in sections model, data and train (SPEC_VLA section 3). Each may be missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.vla.released_flags import MODEL_FLAGS
from model.yaml_files import read_yaml

CONFIG = "config.json"
TRAINING = "lingbotvla_cli.yaml"
SECTIONS = ("model", "data", "train")
OWN = (
    "lingbot_pipelines"  # the folder in a directory of our export that holds what the released layout has no place for
)

# Switches of the released code that change what is computed, none of them set in a released checkpoint.
_UNSUPPORTED = (
    *(name for name, on in MODEL_FLAGS.items() if not on), "norm_qkv", "enable_expert_vision", "use_lm_head", "use_moe",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReleasedSettings:
    """Settings by name, each with the file that gave it; the YAML's count before those of `config.json`.

    Attributes:
        values: name -> value, from the three flat sections.
        origins: name -> the file it came from.
        vlm: `config.json` of the Qwen2.5-VL directory that `tokenizer_path` names, where that exists here; else empty.
            The released code takes the sizes of the language model and the vision tower from it.
        files: those that were read.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, Path] = field(default_factory=dict)
    vlm: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def whole(self, *names: str) -> int | None:
        """The first of `names` that is set, a whole number above 0. UserError for another value."""
        for name in names:
            value = self.values.get(name)
            if value is not None:
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise UserError(f"{self.origins[name]}: {name} is {value!r}: it must be a whole number above 0.")
                return value
        return None

    def choice(self, name: str, meanings: Mapping[Any, Any]) -> Any:
        """What the value of `name` stands for, None where it is not set. UserError when `meanings` lacks it."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str | bool) or value not in meanings:
            known = ", ".join(map(str, meanings))
            raise UserError(f"{self.origins[name]}: {name} is {value!r}: this policy has {known}.")
        return meanings[value]

    def section(self, name: str) -> "ReleasedSettings":
        """The settings nested under `name`; empty where there are none."""
        nested = self.values.get(name) or {}
        if not isinstance(nested, Mapping):
            raise UserError(f"{self.origins[name]}: {name} is {nested!r}: it must be a mapping.")
        origins = dict.fromkeys(nested, self.origins[name]) if nested else {}
        return ReleasedSettings(values=nested, origins=origins)


def read_settings(directory: Path) -> ReleasedSettings:
    """The settings of the released directory.

    The YAML is looked for in the directory, then three levels up (`<run>/checkpoints/global_step_N/hf_ckpt`).

    Raises:
        UserError: a file that cannot be read, of another kind of policy, or with a switch that this policy lacks.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    files = []
    config = directory / CONFIG
    if config.is_file():
        content = read_json(config)
        _check_kind(config, content)
        values |= content
        origins |= dict.fromkeys(content, config)
        files.append(config)
    places = (directory, *directory.resolve().parents[2:3])
    training = next((place / TRAINING for place in places if (place / TRAINING).is_file()), None)
    if training:
        for section in _read_sections(training).values():
            given = {name: value for name, value in section.items() if value is not None}
            values |= given
            origins |= dict.fromkeys(given, training)
        files.append(training)
    settings = ReleasedSettings(values=values, origins=origins, vlm=_vlm_config(values), files=tuple(files))
    _check_switches(settings)
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file. UserError when it is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): fetch it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}: it must hold an object with settings.")
    return content


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    content = read_yaml(path) or {}
    sections = {name: content.get(name) or {} for name in SECTIONS} if isinstance(content, dict) else {}
    wrong = [name for name, section in sections.items() if not isinstance(section, dict)]
    if not sections or wrong:
        raise UserError(f"{path} must hold the sections {', '.join(SECTIONS)}, each a mapping: fetch it again.")
    return sections


def _check_kind(path: Path, content: Mapping[str, Any]) -> None:
    if "vlm_family" in content:
        raise UserError(
            f"{path}: vlm_family is {content['vlm_family']!r}, so this is LingBot-VLA 2, with another backbone and a "
            f"mixture of experts: give a checkpoint of LingBot-VLA 1 (type 'pi0')."
        )
    if "policy" in content:
        raise UserError(
            f"{path} is of a policy's folder of ours: it needs no import, and `lingbot checkpoint export` reads it."
        )
    if content.get("model_type") == "qwen2_5_vl":
        raise UserError(
            f"{path} is of Qwen2.5-VL, not of a LingBot-VLA policy: import it with --from qwen2_5_vl --preset NAME."
        )
    kind = content.get("type", "pi0")
    if kind != "pi0":
        raise UserError(f"{path}: type is {kind!r}: a released LingBot-VLA has 'pi0'; give such a directory.")


def _check_switches(settings: ReleasedSettings) -> None:
    on = [name for name in _UNSUPPORTED if settings.values.get(name)]
    if on:
        raise UserError(
            f"{settings.origins[on[0]]} sets {', '.join(on)}: no released checkpoint does, and this policy computes "
            f"none of it; give a checkpoint that was trained without."
        )
    if settings.values.get("adanorm_time") is False:
        raise UserError(
            f"{settings.origins['adanorm_time']} has adanorm_time false: this policy's expert is conditioned on time "
            f"through its norms; give a checkpoint that was trained with adanorm_time."
        )


def _vlm_config(values: Mapping[str, Any]) -> dict[str, Any]:
    place = values.get("tokenizer_path")
    path = Path(place) / CONFIG if isinstance(place, str) and place else None
    return read_json(path) if path and path.is_file() else {}
