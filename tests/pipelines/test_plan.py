"""Which steps run again when a stored byte, a parameter or the code changed: exactly the right ones."""

import pytest

from components import records
from components.execution import execute
from components.steps import choose, parameter_values
from pipelines.plan import make_plan, mark_verified, take_back
from tests.components.small_steps import Parameters, make_step

# source -> left -> join -> end, source -> right -> join
SHAPE = {
    "source": {},
    "left": {"source": "source"},
    "right": {"source": "source"},
    "join": {"left": "left", "right": "right"},
    "end": {"join": "join"},
}
DOWNSTREAM = {
    "source": ["source", "left", "right", "join", "end"],
    "left": ["left", "join", "end"],
    "right": ["right", "join", "end"],
    "join": ["join", "end"],
    "end": ["end"],
}


class Dag:
    """Five small steps, run as a run does it: plan, take back, execute in order."""

    def __init__(self) -> None:
        made = {name: make_step(name, **inputs) for name, inputs in SHAPE.items()}
        self.steps = choose([step for step, _ in made.values()], leave_out=())
        self.modules = {name: module for name, (_, module) in made.items()}
        self.parameters = {name: parameter_values(Parameters()) for name in SHAPE}
        self.versions = {step.module: "v1" for step in self.steps}
        self.runs = 0

    def set(self, step: str, **values: object) -> None:
        self.parameters[step] = parameter_values(Parameters(**values))  # type: ignore[arg-type]

    def plan(self):
        return make_plan(self.steps, self.parameters, lambda module: self.versions[module])

    def run(self) -> list[str]:
        """Runs the DAG; returns the steps that were executed."""
        before = {name: module.ran for name, module in self.modules.items()}
        self.runs += 1
        plan = self.plan()
        self.taken = take_back(plan, self.parameters, lambda module: self.versions[module])
        (records.state.run_folder(f"r{self.runs}")).mkdir(parents=True)
        mark_verified(plan, f"r{self.runs}")
        self.artifacts = {}
        for step in self.steps:
            inputs = {name: self.artifacts[maker] for name, (maker,) in step.inputs.items()}
            version = self.versions[step.module]
            self.artifacts[step.name] = execute(
                step, inputs, self.parameters[step.name], f"r{self.runs}", version=version
            )
        return [name for name, module in self.modules.items() if module.ran > before[name]]


@pytest.fixture
def dag(monkeypatch, tmp_path) -> Dag:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LINGBOT_STORAGE", raising=False)
    return Dag()


def test_nothing_changed_nothing_runs(dag):
    assert [planned.why for planned in dag.plan()] == [
        "it has not run yet",
        "source runs first",
        "source runs first",
        "left and right run first",
        "join runs first",
    ]
    assert dag.run() == list(SHAPE)
    assert all(planned.artifact is not None and planned.why == "" for planned in dag.plan())
    assert dag.run() == []
    assert dag.taken == {}


@pytest.mark.parametrize("step", SHAPE)
@pytest.mark.parametrize("damage", ["byte", "missing", "extra", "manifest", "unreadable manifest", "no data"])
def test_one_changed_byte_repeats_that_step_and_what_depends_on_it(dag, step, damage):
    dag.run()
    artifact = dag.artifacts[step]
    folder = records.data_folder(step, artifact.fingerprint)
    manifest = records.manifest_path(step, artifact.fingerprint)
    if damage == "byte":
        content = bytearray((folder / "a.txt").read_bytes())
        content[-1] ^= 1
        (folder / "a.txt").write_bytes(content)
    elif damage == "missing":
        (folder / "folder/b.txt").unlink()
    elif damage == "extra":
        (folder / "folder/c.txt").write_text("")
    elif damage == "manifest":
        manifest.write_text(manifest.read_text().replace('"amount": 3', '"amount": 4', 1))
    elif damage == "unreadable manifest":
        manifest.write_text("{")
    else:
        (folder / "a.txt").unlink()
        (folder / "folder/b.txt").unlink()
    assert dag.run() == DOWNSTREAM[step]
    assert list(dag.taken) == [step]
    assert dag.taken[step] == DOWNSTREAM[step][1:]
    assert dag.run() == []


@pytest.mark.parametrize("step", SHAPE)
def test_a_changed_parameter_repeats_what_depends_on_it(dag, step):
    dag.run()
    dag.set(step, amount=4)
    reasons = {planned.step.name: planned.why for planned in dag.plan()}
    assert reasons[step] == "amount 3 -> 4"
    assert dag.run() == DOWNSTREAM[step]
    dag.set(step)
    assert dag.run() == [], "what was made with the old parameters is still there"


def test_a_parameter_that_changes_no_byte_stops_there(dag):
    """`left` reads a.txt; the same content under another fingerprint is the same input."""
    dag.run()
    dag.versions["small_step_source"] = "v2"
    assert {planned.step.name: planned.why for planned in dag.plan()}["source"] == "other code"
    assert dag.run() == ["source"]


def test_records_of_other_parameters_survive_a_damaged_input(dag):
    dag.run()
    dag.set("end", amount=9)
    dag.run()
    other = dag.artifacts["end"]
    dag.set("end")
    dag.run()
    (records.data_folder("left", dag.artifacts["left"].fingerprint) / "a.txt").write_text("damaged")
    assert dag.run() == ["left", "join", "end"]
    assert records.verify(other) == []
    dag.set("end", amount=9)
    assert dag.run() == []


def test_two_damaged_steps_are_both_found(dag):
    dag.run()
    for name in ("left", "end"):
        (records.data_folder(name, dag.artifacts[name].fingerprint) / "a.txt").write_text("damaged")
    assert dag.run() == ["left", "join", "end"]
    assert list(dag.taken) == ["left"] or list(dag.taken) == ["left", "end"]


def test_damage_is_found_under_equal_bytes_of_other_code(dag):
    """The source was made twice with equal bytes; what was made from the first depends on the second as well."""
    dag.run()
    dag.versions["small_step_source"] = "v2"
    dag.run()
    (records.data_folder("source", dag.artifacts["source"].fingerprint) / "a.txt").write_text("damaged")
    assert dag.run() == DOWNSTREAM["source"]


def test_an_interrupted_step_is_said_to_go_on(dag):
    dag.run()
    dag.set("join", amount=5)
    planned = {planned.step.name: planned for planned in dag.plan()}["join"]
    records.work_folder("join", planned.fingerprint).mkdir(parents=True)
    assert {planned.step.name: planned.why for planned in dag.plan()}["join"] == "it was interrupted and goes on"
