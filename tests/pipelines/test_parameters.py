import dataclasses
from pathlib import Path

import pytest
import yaml

from components.steps import STEPS
from model.errors import UserError
from pipelines.parameters import PRESETS, default_path, load_parameters, parse_value


@pytest.fixture
def params(tmp_path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 5\npreset: demo\ncollect: {episodes: 12}\npretrain: {steps: 70, seed: 9}\n")
    return path


def test_later_layers_win(params):
    loaded = load_parameters(params)
    assert loaded.steps["collect"]["episodes"] == 12
    assert loaded.steps["collect"]["fps"] == 10, "the step's own default"
    debug = yaml.safe_load(PRESETS.read_text())["debug"]
    loaded = load_parameters(params, ["preset=debug"])
    assert loaded.preset == "debug"
    assert loaded.steps["collect"]["episodes"] == debug["collect"]["episodes"]
    loaded = load_parameters(params, ["preset=debug", "collect.episodes=4", "collect.episodes=5"])
    assert loaded.steps["collect"]["episodes"] == 5


def test_the_seed_is_that_of_every_step_without_its_own(params):
    loaded = load_parameters(params, ["seed=3"])
    assert loaded.seed == 3
    assert loaded.steps["collect"]["seed"] == 3
    assert loaded.steps["pretrain"]["seed"] == 9
    assert "seed" not in loaded.steps["validate"]
    assert load_parameters(params, ["pretrain.seed=1"]).steps["pretrain"]["seed"] == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pretrain.stesp=200", "unknown parameter of 'pretrain' 'stesp'.*Did you mean 'steps'"),
        ("pretrian.steps=200", "unknown section of the parameters 'pretrian'.*Did you mean 'pretrain'"),
        ("sede=1", "unknown parameter 'sede'.*Did you mean 'seed'"),
        ("preset=debgu", "unknown preset 'debgu'.*Did you mean 'debug'"),
        ("pretrain.steps=many", "pretrain.steps is 'many': it must be a whole number"),
        ("pretrain.steps=1.5", "pretrain.steps is '1.5': it must be a whole number"),
        ("pretrain.learning_rate=fast", "pretrain.learning_rate is 'fast': it must be a number"),
        ("collect.depth=maybe", "collect.depth is 'maybe': it must be true or false"),
        ("seed=x", "seed is 'x': it must be a whole number"),
        ("pretrain.steps", "'pretrain.steps' sets nothing: write KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_named(params, setting, message):
    with pytest.raises(UserError, match=message):
        load_parameters(params, [setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrain: {stesp: 1}", "Did you mean 'steps'"),
        ("pretrian: {}", "Did you mean 'pretrain'"),
        ("pretrain: 3", "section 'pretrain' of the parameters is 3: it must be a mapping"),
        ("pretrain: {learning_rate: 1e-3}", "pretrain.learning_rate is '1e-3': it must be a number.*1.0e-3"),
        ("pretrain: {steps: true}", "pretrain.steps is True: it must be a whole number"),
        ("finetune: {steps: -1}", "^finetune: steps is -1: a training takes"),
        ("register: {model_name: a/b}", "^register.model_name 'a/b' must begin"),
        ("pretrain: {learning_rate: .nan}", "pretrain.learning_rate is nan: it must be a number that is finite"),
        ("pretrain: {steps: 3, steps: 4}", "'steps' is given in line 1 and again"),
        ("- 1", "holds list: it must hold a mapping"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_parameters(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f"cannot read {tmp_path}/none.yaml"):
        load_parameters(tmp_path / "none.yaml")


def test_settings_have_the_type_of_their_field():
    assert parse_value("k", "3", int) == 3
    assert parse_value("k", "1e-3", float) == 0.001
    assert parse_value("k", "True", bool) is True
    assert parse_value("k", "12", str) == "12"
    assert parse_value("k", "a, b", tuple[str, ...]) == ["a", "b"]
    assert parse_value("k", "[1,2]", tuple[int, ...]) == [1, 2]
    assert parse_value("k", "none", str | None) is None


def test_the_file_of_the_project_names_every_parameter():
    """What can be changed is in params.yaml, and nothing else is; seeds are given once, at the top."""
    written = yaml.safe_load(default_path().read_text())
    assert written.keys() == {"seed", "preset", *STEPS}
    for name, step in STEPS.items():
        fields = {field.name for field in dataclasses.fields(step.load().Parameters)} - {"seed"}
        assert set(written[name]) == fields, name


def test_every_preset_of_the_project_is_valid():
    for preset in yaml.safe_load(PRESETS.read_text()):
        assert load_parameters(settings=[f"preset={preset}"]).preset == preset


def test_every_parameter_of_the_project_can_be_set(params):
    loaded = load_parameters(params)
    for name, values in loaded.steps.items():
        for field, value in values.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            again = load_parameters(params, [f"{name}.{field}={text}"])
            assert again.steps[name][field] == value, f"{name}.{field}"
