"""The tasks of a compiled pipeline, loops and inner pipelines unrolled, as the stand-in runs them."""

import json
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass
class Task:
    """One execution of a component."""

    path: str  # as policies/for-loop-1[0]/evaluate
    name: str  # as evaluate: what a task is called in the pipeline
    executor: str
    after: set[str] = field(default_factory=set)  # paths
    state: str = "PENDING"
    history: list[tuple[str, str]] = field(default_factory=list)  # (time, state)
    attempt: int = 0
    error: str = ""


def unroll(pipeline: Object, given: Object) -> list[Task]:
    """Every task that a run with these parameters has, in an order in which they could run.

    Raises:
        ValueError: a parameter that the pipeline does not have.
    """
    root = pipeline["root"]
    inputs = root.get("inputDefinitions", {}).get("parameters", {})
    unknown = set(given) - set(inputs)
    if unknown:
        raise ValueError(f"parameter {sorted(unknown)[0]} is not an input of the pipeline")
    values = {name: given.get(name, defined.get("defaultValue")) for name, defined in inputs.items()}
    return _tasks(pipeline, root["dag"], values, "")


def _tasks(pipeline: Object, dag: Object, values: Object, prefix: str) -> list[Task]:
    made: dict[str, list[Task]] = {}
    for name, task in dag["tasks"].items():
        component = pipeline["components"][task["componentRef"]["name"]]
        passed = {
            key: values.get(source["componentInputParameter"])
            for key, source in task.get("inputs", {}).get("parameters", {}).items()
            if "componentInputParameter" in source
        }
        if "dag" not in component:
            made[name] = [Task(prefix + name, task["taskInfo"]["name"], component["executorLabel"])]
            continue
        count = _count(task, passed)
        places = [f"{prefix}{name}/"] if count is None else [f"{prefix}{name}[{n}]/" for n in range(count)]
        made[name] = [inner for place in places for inner in _tasks(pipeline, component["dag"], passed, place)]
    for name, task in dag["tasks"].items():
        for inner in made[name]:
            inner.after |= {before.path for other in task.get("dependentTasks", ()) for before in made[other]}
    return [inner for tasks in made.values() for inner in tasks]


def _count(task: Object, passed: Object) -> int | None:
    """How often a loop goes round; None: it is no loop."""
    if "parameterIterator" not in task:
        return None
    items = task["parameterIterator"]["items"]
    return len(json.loads(items["raw"]) if "raw" in items else passed[items["inputParameter"]])
