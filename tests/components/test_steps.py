import importlib
import inspect
import subprocess
import sys
from typing import Literal

import pytest

from components import state
from components.steps import STEPS, check_value, choose, get_step, make_parameters, maker, parameter_values
from model.errors import UserError

HEAVY = ("torch", "kfp", "mlflow", "great_expectations", "transformers", "pyarrow", "av", "mujoco", "boto3", "fastapi")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_each_module_is_what_the_table_says(step):
    module = step.load()
    assert step.name == module.NAME
    assert tuple(step.inputs) == tuple(module.INPUTS)
    assert list(inspect.signature(module.run).parameters) == ["inputs", "output", "parameters", "progress"]
    values = parameter_values(module.Parameters())
    assert state.canonical_json(values)
    assert make_parameters(step, values) == module.Parameters()
    assert set(step.sources) <= values.keys()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_each_shell_takes_and_gives_what_the_table_says(step):
    folder = step.module.rsplit(".", 1)[0]
    component = getattr(importlib.import_module(f"{folder}.component"), step.name)
    parameters = inspect.signature(component.python_func).parameters
    digests = [f"{name}_digest" for name in step.inputs]
    assert list(parameters) == [*step.inputs, *digests, "parameters", "code_version", step.artifact, "digest"]


def test_no_step_module_imports_anything_heavy():
    modules = [step.module for step in STEPS.values()]
    script = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=state.checkout(), capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_a_dag_has_one_maker_for_each_input():
    left_out = {"ingest", "subset", "study"}
    steps = choose(STEPS.values(), leave_out=left_out)
    names = [step.name for step in steps]
    assert names == [name for name in STEPS if name not in left_out]
    for step in steps:
        for name in step.inputs:
            assert names.index(maker(step, name)) < names.index(step.name)
            assert STEPS[maker(step, name)].artifact == name


def test_an_unknown_step_gets_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean 'pretrain'"):
        get_step("pretain")


@pytest.mark.parametrize(
    ("value", "expected", "checked"),
    [
        (3, int, 3),
        (3.0, int, 3),
        (3, float, 3.0),
        ("x", str, "x"),
        (True, bool, True),
        (["a", "b"], tuple[str, ...], ("a", "b")),
        ([1.0, 2], tuple[int, ...], (1, 2)),
        (None, str | None, None),
        ("x", str | None, "x"),
        ("a", Literal["a", "b"], "a"),
    ],
)
def test_values_of_the_right_type(value, expected, checked):
    result = check_value("pack.rate", value, expected)
    assert result == checked
    assert type(result) is type(checked)


@pytest.mark.parametrize(
    ("value", "expected", "rule"),
    [
        (3.5, int, "a whole number"),
        (True, int, "a whole number"),
        ("3", float, "a number"),
        (1, bool, "true or false"),
        (1, str, "text"),
        ("a", tuple[str, ...], "a list"),
        (["a", 1], tuple[str, ...], r"pack.rate\[1\] is 1: it must be text"),
        ("aa", Literal["a", "b"], "Did you mean 'a'"),
    ],
)
def test_values_of_a_wrong_type_are_named(value, expected, rule):
    with pytest.raises(UserError, match=rf"pack\.rate.*{rule}|{rule}"):
        check_value("pack.rate", value, expected)
