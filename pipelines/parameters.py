"""The parameters of a run: `params.yaml`, a preset, and `--set`, checked against each step's `Parameters`.

What counts, later before earlier: the step's defaults, `params.yaml`, the preset (`presets.yaml`), `--set`. The
top-level `seed` is the seed of each step that has one and is not given its own.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components import state
from components.steps import STEPS, Step, check_value, make_parameters, parameter_values
from model.errors import UserError, unknown_name
from model.yaml_files import read_yaml

PRESETS = Path(__file__).parent / "presets.yaml"
# The preset that changes nothing: params.yaml as it stands.
PLAIN = "demo"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParameters:
    """All parameters of a run: `steps` holds every step's, complete, as JSON-able values."""

    seed: int
    preset: str
    steps: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"seed": self.seed, "preset": self.preset, **{name: dict(values) for name, values in self.steps.items()}}


def default_path() -> Path:
    return state.checkout() / "params.yaml"


def load_parameters(
    path: Path | None = None,
    settings: Sequence[str] = (),
    steps: Iterable[Step] | None = None,
) -> RunParameters:
    """Reads and checks the parameters.

    Args:
        path: of `params.yaml`; None: that of the checkout.
        settings: `KEY=VALUE` from the command line, for example `pretrain.steps=200` or `seed=1`.
        steps: those whose parameters are wanted; None: all. Sections of other steps must still be steps.

    Raises:
        UserError: an unknown name (with the nearest one), a value of a wrong type or range, an unreadable file.
    """
    wanted = {step.name: step for step in (STEPS.values() if steps is None else steps)}
    values = read_mapping(path or default_path())
    settings_by_key = [_split(setting) for setting in settings]
    top = {"seed": values.pop("seed", 0), "preset": values.pop("preset", PLAIN)}
    for key, text in settings_by_key:
        if "." not in key:
            if key not in top:
                raise unknown_name("parameter", key, _all_keys(wanted))
            top[key] = parse_value(key, text, int if key == "seed" else str)
    seed, preset = check_value("seed", top["seed"], int), check_value("preset", top["preset"], str)

    sections: dict[str, dict[str, Any]] = {name: {} for name in STEPS}
    for layer in (values, load_preset(preset)):
        for name, section in layer.items():
            if name not in sections:
                raise unknown_name("section of the parameters", name, [*STEPS, *top])
            if not isinstance(section, Mapping):
                raise UserError(f"the section '{name}' of the parameters is {section!r}: it must be a mapping")
            sections[name].update(section)
    for key, text in settings_by_key:
        if "." in key:
            name, field = key.split(".", 1)
            if name not in sections:
                raise unknown_name("section of the parameters", name, [*STEPS, *top])
            sections[name][field] = parse_value(key, text, _field_type(STEPS[name], field))
    return RunParameters(
        seed=seed,
        preset=preset,
        steps={name: _complete(step, sections[name], seed) for name, step in wanted.items()},
    )


def recorded_parameters(values: Mapping[str, Any]) -> RunParameters:
    """The parameters of an earlier run, from what `RunParameters.to_json` made then.

    Raises:
        UserError: one of them is no parameter any more.
    """
    return RunParameters(
        seed=values["seed"],
        preset=values["preset"],
        steps={name: parameter_values(make_parameters(step, values.get(name, {}))) for name, step in STEPS.items()},
    )


def _complete(step: Step, section: Mapping[str, Any], seed: int) -> dict[str, Any]:
    fields = {field.name for field in dataclasses.fields(step.load().Parameters)}
    given = {"seed": seed, **section} if "seed" in fields else section
    return parameter_values(make_parameters(step, given))


def load_preset(name: str) -> Mapping[str, Mapping[str, Any]]:
    presets = {PLAIN: {}, **read_mapping(PRESETS)}
    if name not in presets:
        raise unknown_name("preset", name, presets)
    return presets[name]


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UserError: it is missing, is no YAML, or holds something else.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}: it must hold a mapping of names to values")
    return values


def _split(setting: str) -> tuple[str, str]:
    key, found, text = setting.partition("=")
    if not found or not key:
        raise UserError(f"'{setting}' sets nothing: write KEY=VALUE, for example pretrain.steps=200")
    return key.strip(), text.strip()


def _field_type(step: Step, field: str) -> Any:
    hints = typing.get_type_hints(step.load().Parameters)
    if field not in hints:
        raise unknown_name(f"parameter of '{step.name}'", field, hints)
    return hints[field]


def _all_keys(steps: Mapping[str, Step]) -> list[str]:
    """Every key that can be set, for the nearest name."""
    keys = ["seed", "preset"]
    for step in steps.values():
        keys += [f"{step.name}.{field.name}" for field in dataclasses.fields(step.load().Parameters)]
    return keys


def parse_value(name: str, text: str, expected: Any) -> Any:
    """The text of a `--set` as a value of the expected type; lists are separated by commas.

    Raises:
        UserError: it is no such value.
    """
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        if text.lower() in ("null", "none"):
            return None
        (expected,) = (option for option in typing.get_args(expected) if option is not type(None))
    if typing.get_origin(expected) is tuple:
        element, *_ = typing.get_args(expected)
        items = [item.strip() for item in text.strip("[]()").split(",") if item.strip()]
        return [parse_value(f"{name}[{index}]", item, element) for index, item in enumerate(items)]
    if expected is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name} is '{text}': it must be true or false")
        return text.lower() == "true"
    if expected in (int, float):
        try:
            return expected(text)
        except ValueError:
            return check_value(name, text, expected)  # raises, with the rule
    return check_value(name, text, expected)
