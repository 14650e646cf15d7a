"""The steps of the project: where each one's code is, what it reads, and from which step.

This table is the one place that knows the shape of the DAG. The KFP pipeline, `dvc.yaml`, `lingbot step` and the
plan of a run are checked against it by tests.
"""

import dataclasses
import importlib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from components.secrets import refuse_in_address
from model.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the DAG.

    Attributes:
        name: what commands, records and `params.yaml` call it.
        module: has NAME, INPUTS, Parameters and run (see CONTRIBUTING.md, "a step").
        inputs: input name -> the steps that can make it (more than one: alternatives, of which a run has one).
        artifact: what it makes; also the name under which the next steps read it.
        image: the container image it runs in on a cluster (components/images.py).
        sources: its parameters that name files outside of the state folder (a dataset, a checkpoint). The bytes they
            name count in the fingerprint, not just the name.
        listings: its parameters that name a file which lists others, and the module whose `digest(name, value)` is that
            of everything they name.
        many: those of its inputs that are lists: as many executions of their maker as the run has.
        study: only a study of the amount of data has it (pipelines/study.py).
        label: of one of several executions of a step in one run; see `task`.
        effects: it changes something outside of its artefact (the registry). Its module also has
            `verify(output) -> bool`, whether that is still there, and KFP itself must not cache it.
    """

    name: str
    module: str
    inputs: Mapping[str, tuple[str, ...]]
    artifact: str
    image: str
    sources: tuple[str, ...] = ()
    listings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    many: tuple[str, ...] = ()
    study: bool = False
    label: str = ""
    effects: bool = False

    @property
    def task(self) -> str:
        """What a run calls it: its name, and which one it is where the run has several, as pretrain@0.5-1."""
        return f"{self.name}@{self.label}" if self.label else self.name

    def load(self) -> types.ModuleType:
        return importlib.import_module(self.module)


_DATASET = ("collect", "ingest")

_TABLE = (
    Step(name="collect", module="components.collect.step", inputs={}, artifact="dataset", image="simulation"),
    Step(
        name="ingest",
        module="components.ingest.step",
        inputs={},
        artifact="dataset",
        image="data",
        sources=("dataset",),
    ),
    Step(
        name="validate",
        module="components.validate.step",
        inputs={"dataset": _DATASET},
        artifact="verdict",
        image="data",
        sources=("thresholds", "decisions", "reference", "holdout"),
    ),
    Step(
        name="annotate",
        module="components.annotate.step",
        inputs={"dataset": _DATASET, "verdict": ("validate",)},
        artifact="annotations",
        image="data",
        sources=("checkpoint", "vocabulary", "reviewed"),
    ),
    Step(
        name="extract_depth_tokens",
        module="components.extract_depth_tokens.step",
        inputs={"dataset": _DATASET, "verdict": ("validate",)},
        artifact="tokens",
        image="train",
        sources=("checkpoint", "depth_model"),
    ),
    Step(
        name="pack",
        module="components.pack.step",
        inputs={"dataset": _DATASET, "verdict": ("validate",), "annotations": ("annotate",)},
        artifact="packed",
        image="data",
    ),
    Step(
        name="subset",
        module="components.subset.step",
        inputs={"packed": ("pack",)},
        artifact="subset",
        image="data",
        study=True,
    ),
    Step(
        name="pretrain",
        module="components.train.pretrain",
        inputs={"packed": ("pack", "subset"), "tokens": ("extract_depth_tokens",)},
        artifact="checkpoint",
        image="train",
        sources=("initial_checkpoint",),
        listings={"mixture": "components.train.mixture_file"},
    ),
    Step(
        name="finetune",
        module="components.train.finetune",
        inputs={"packed": ("pack", "subset"), "tokens": ("extract_depth_tokens",), "checkpoint": ("pretrain",)},
        artifact="policy",
        image="train",
    ),
    Step(
        name="evaluate",
        module="components.evaluate.step",
        inputs={"policy": ("finetune",), "packed": ("pack",)},
        artifact="evaluation",
        image="simulation",
    ),
    Step(
        name="study",
        module="components.study.step",
        inputs={"evaluations": ("evaluate",)},
        artifact="study",
        image="train",
        many=("evaluations",),
        study=True,
    ),
    Step(
        name="register",
        module="components.register.step",
        inputs={"policy": ("finetune",), "evaluation": ("evaluate",)},
        artifact="version",
        image="train",
        effects=True,
    ),
    Step(
        name="promote",
        module="components.promote.step",
        inputs={"version": ("register",), "evaluation": ("evaluate",)},
        artifact="promotion",
        image="train",
        sources=("policy",),
        effects=True,
    ),
)

STEPS: Mapping[str, Step] = types.MappingProxyType({step.name: step for step in _TABLE})


def get_step(name: str) -> Step:
    """The step of that name.

    Raises:
        UserError: there is none; with the nearest name.
    """
    if name not in STEPS:
        raise unknown_name("step", name, STEPS)
    return STEPS[name]


def choose(steps: Iterable[Step], leave_out: Iterable[str]) -> tuple[Step, ...]:
    """The steps of one DAG, in order: those of `steps` without the alternatives that it does not use.

    Each input of the result names exactly one step, and that step comes before its reader.
    """
    left_out = set(leave_out)
    chosen: dict[str, Step] = {}
    for step in steps:
        if step.name in left_out:
            continue
        inputs = {name: tuple(made for made in makers if made in chosen) for name, makers in step.inputs.items()}
        assert all(len(makers) == 1 for makers in inputs.values()), f"{step.name}: inputs {inputs} are not one each"
        chosen[step.name] = dataclasses.replace(step, inputs=inputs)
    return tuple(chosen.values())


def spread(step: Step, makers: Mapping[str, Iterable[str]]) -> Step:
    """The step with an input for each element of its lists: `evaluations[0]`, `evaluations[1]`, ...

    Args:
        step: with `many`.
        makers: name of a list -> who makes each of its elements, in order.
    """
    assert makers.keys() == set(step.many), f"{step.name} has the lists {step.many}, was given {list(makers)}"
    single = {name: made_by for name, made_by in step.inputs.items() if name not in makers}
    elements = {f"{name}[{n}]": (task,) for name, tasks in makers.items() for n, task in enumerate(tasks)}
    return dataclasses.replace(step, inputs={**single, **elements}, many=())


def maker(step: Step, input_name: str) -> str:
    """The task that makes an input, in a DAG returned by `choose`."""
    (name,) = step.inputs[input_name]
    return name


def make_parameters(step: Step, values: Mapping[str, Any]) -> Any:
    """The step's `Parameters` from plain values, each checked against its field and its type.

    Values that went through KFP come back as JSON numbers, so 3.0 is taken for an int field.

    Raises:
        UserError: an unknown name (with the nearest one), a value of another type, or one that the step refuses; it
            names the step, of which several may have a parameter of that name.
    """
    schema = step.load().Parameters
    types_by_name = typing.get_type_hints(schema)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types_by_name:
            raise unknown_name(f"parameter of '{step.name}'", name, types_by_name)
        checked[name] = check_value(f"{step.name}.{name}", value, types_by_name[name])
    try:
        return schema(**checked)
    except UserError as error:
        said = str(error)
        raise UserError(said if f"{step.name}." in said else f"{step.name}: {said}") from error


def parameter_values(parameters: Any) -> dict[str, Any]:
    """The JSON-able values of a step's `Parameters`: tuples become lists."""
    values = dataclasses.asdict(parameters)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_value(name: str, value: Any, expected: Any) -> Any:
    """`value` as the type `expected` (int, float, str, bool, tuple[...], or one of these or None).

    Raises:
        UserError: it is of another type.
    """
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        options = typing.get_args(expected)
        if value is None and type(None) in options:
            return None
        (expected,) = (option for option in options if option is not type(None))
    if typing.get_origin(expected) is typing.Literal:
        if value not in typing.get_args(expected):
            raise unknown_name(f"value of {name}", str(value), map(str, typing.get_args(expected)))
        return value
    if typing.get_origin(expected) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} is {value!r}: it must be a list, for example [{value!r}]")
        element, *_ = typing.get_args(expected)
        return tuple(check_value(f"{name}[{index}]", item, element) for index, item in enumerate(value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is bool and isinstance(value, bool):
        return value
    if expected is int and is_number and float(value).is_integer():
        return int(value)
    if expected is float and is_number:
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}: it must be a number that is finite")
        return float(value)
    if expected is str and isinstance(value, str):
        refuse_in_address(name, value)  # parameters go into every record
        return value
    hint = " (YAML takes 1e-3 for text: write 1.0e-3)" if expected is float and "e" in str(value).lower() else ""
    raise UserError(f"{name} is {value!r}: it must be {_TYPE_NAMES[expected]}{hint}")


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
