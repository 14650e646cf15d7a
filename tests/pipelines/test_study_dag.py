"""A study's DAG: which policies there are, what each task reads, and that the compiled loop says the same."""

import pytest
import yaml

from components.code_version import code_version
from components.shell import TASK
from components.steps import STEPS
from model.errors import UserError
from pipelines.compile import compile_pipeline
from pipelines.live import StepState, folded
from pipelines.parameters import load_parameters
from pipelines.policies import LOOP
from pipelines.profile import load_profile
from pipelines.shape import STUDY, data_steps, run_steps

SETTINGS = ["preset=debug", "seed=3", "study.amounts=0.5,1", "study.repeats=2", "study.parallel=3"]
LABELS = ["0.5-0", "0.5-1", "1-0", "1-1"]


@pytest.fixture(scope="module")
def tasks():
    """The tasks of the run by name, and the parameters of each."""
    steps, values = run_steps(STUDY, load_parameters(settings=SETTINGS))
    return {step.task: step for step in steps}, values


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = compile_pipeline(
        load_parameters(settings=SETTINGS), load_profile("cluster"), tmp_path_factory.mktemp("study"), STUDY
    )
    assert path.name == "study.yaml"
    return next(yaml.safe_load_all(path.read_text()))


def test_each_amount_and_seed_is_a_policy_with_tasks_of_its_own(tasks):
    steps, values = tasks
    data = [step.name for step in data_steps("collect")]
    assert list(steps) == [*data, *(f"{name}@{label}" for label in LABELS for name in LOOP), STUDY]
    for label, amount, number in zip(LABELS, (0.5, 0.5, 1.0, 1.0), (0, 1, 0, 1), strict=True):
        assert values[f"subset@{label}"] == {"axis": "share", "amount": amount, "seed": 3 + number}
        assert values[f"pretrain@{label}"]["seed"] == values[f"finetune@{label}"]["seed"] == 3 + number
        # all are judged on the same scenes, without what says nothing of the amount of data
        judged = values[f"evaluate@{label}"]
        assert (judged["first_seed"], judged["baselines"], judged["language"]) == (0, False, False)


def test_a_policy_is_trained_on_its_part_and_judged_by_the_whole(tasks):
    steps, _ = tasks
    for label in LABELS:
        assert steps[f"subset@{label}"].inputs == {"packed": ("pack",)}
        for name in ("pretrain", "finetune"):
            assert steps[f"{name}@{label}"].inputs["packed"] == (f"subset@{label}",)
        assert steps[f"finetune@{label}"].inputs["checkpoint"] == (f"pretrain@{label}",)
        assert steps[f"evaluate@{label}"].inputs == {"policy": (f"finetune@{label}",), "packed": ("pack",)}
    joined = [maker for (maker,) in steps[STUDY].inputs.values()]
    assert joined == [f"evaluate@{label}" for label in LABELS]


def test_equal_steps_of_a_study_and_of_a_run_have_equal_parameters(tasks):
    """So that a study goes on with the data, and a run with the policies, that the other has made."""
    _, values = tasks
    parameters = load_parameters(settings=SETTINGS)
    for step in data_steps("collect"):
        assert values[step.name] == parameters.steps[step.name]


def components(compiled, name):
    return compiled["components"][name]["dag"]["tasks"]


def find_loop(compiled):
    """The component that holds the loop, the loop's task, and the component of its body."""
    for name, component in compiled["components"].items():
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "parameterIterator" in task:
                return name, task, components(compiled, task["componentRef"]["name"])
    raise AssertionError("nothing is looped over")


def test_the_compiled_loop_says_the_same(compiled, tasks):
    steps, values = tasks
    _, loop, body = find_loop(compiled)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 3
    assert set(body) == set(LOOP)
    for name, task in body.items():
        step = steps[f"{name}@{LABELS[0]}"]
        before = {maker.partition("@")[0] for (maker,) in step.inputs.values() if "@" in maker}
        assert set(task.get("dependentTasks", [])) == before
        for key, (maker,) in step.inputs.items():
            artifact = task["inputs"]["artifacts"][key]
            if "@" in maker:
                assert artifact["taskOutputArtifact"]["producerTask"] == maker.partition("@")[0]
            else:
                assert "componentInputArtifact" in artifact
            assert f"{key}_digest" in task["inputs"]["parameters"]
        version = task["inputs"]["parameters"]["code_version"]["runtimeValue"]["constant"]
        assert version == code_version(STEPS[name].module)
    items = compiled["root"]["inputDefinitions"]["parameters"]["policies"]["defaultValue"]
    given = {section[TASK]: section for item in items for section in item.values()}
    assert given.keys() == {task for task in values if "@" in task}
    for task, section in given.items():
        assert {name: value for name, value in section.items() if name != TASK} == values[task]


def test_the_join_collects_what_the_loop_made(compiled):
    around, _, _ = find_loop(compiled)
    inputs = components(compiled, around)[STUDY]["inputs"]
    (looped,) = (name for name, task in components(compiled, around).items() if "parameterIterator" in task)
    assert inputs["artifacts"]["evaluations"]["taskOutputArtifact"]["producerTask"] == looped
    assert inputs["parameters"]["evaluations_digest"]["taskOutputParameter"]["producerTask"] == looped


def test_no_digest_reaches_the_loop_from_a_task_beside_it(compiled):
    """kfp.local 2.17 would put the loop's item in its place."""
    _, loop, _ = find_loop(compiled)
    assert all("taskOutputParameter" not in given for given in loop["inputs"]["parameters"].values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["study.repeats=20"], "20 x 4 amounts are 80 policies"),
        (["study.axis=demonstration"], "Did you mean 'demonstrations'"),
        (["study.axis=demonstrations", "study.amounts=80,130"], "240 gives 120 .* set collect.episodes=2"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_named_before_anything_runs(settings, message):
    with pytest.raises(UserError, match=message):
        run_steps(STUDY, load_parameters(settings=settings))


def test_the_episodes_that_are_proposed_are_enough():
    wanted = ["study.axis=demonstrations", "study.amounts=80,130"]
    with pytest.raises(UserError) as raised:
        run_steps(STUDY, load_parameters(settings=wanted))
    proposed = str(raised.value).rpartition("set ")[2]
    run_steps(STUDY, load_parameters(settings=[*wanted, proposed]))
    episodes = int(proposed.partition("=")[2])
    assert (1 - 0.05) * episodes / 2 >= 130


def test_the_live_table_has_one_row_for_all_policies_and_those_that_run():
    states = [StepState("pack", status="done", seconds=1.0)]
    for label, status in zip(LABELS, ("done", "cached", "running", "waiting"), strict=True):
        states += [StepState(f"pretrain@{label}", status=status, seconds=2.0), StepState(f"finetune@{label}")]
    rows = folded(states)
    assert [row.name for row in rows] == ["pack", "pretrain", "pretrain@1-0", "finetune"]
    assert (rows[1].status, rows[1].doing, rows[1].seconds) == ("running", "2 of 4", 8.0)
    assert (rows[3].status, rows[3].seconds) == ("waiting", None)
