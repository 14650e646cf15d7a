"""A stand-in for Kubeflow Pipelines' API, on loopback: what `kfp.Client` and `lingbot` talk to in tests.

`Kubeflow` keeps experiments, pipelines with their versions, runs and recurring runs, answers over HTTP in the published
shapes (`kubeflow_shapes`), moves runs on (`kubeflow_runs`), and fails when it is told to (`kubeflow_http`).
"""

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import yaml

from tests.components.launch.kubernetes_api import Kubernetes
from tests.loopback import Fault, Refused
from tests.pipelines.cluster.kubeflow_http import Call, Server, Wire
from tests.pipelines.cluster.kubeflow_runs import FINAL, Break, Engine, now
from tests.pipelines.cluster.kubeflow_shapes import build, plain
from tests.pipelines.cluster.kubeflow_tasks import Object

PACE = 0.02  # seconds a turn
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPERATIONS = {"EQUALS": 1, "IS_SUBSTRING": 9}


class Kubeflow:
    """An installation for one user. A context: nothing of it is left after its end."""

    def __init__(self, kubernetes: Kubernetes | None = None, *, multi_user: bool = False) -> None:
        self.engine = Engine(kubernetes)
        self.multi_user = multi_user
        self.experiments: dict[str, Object] = {}
        self.pipelines: dict[str, Object] = {}
        self.versions: dict[str, Object] = {}
        self.recurring: dict[str, Object] = {}
        self.wire = Wire(self.answer)
        self.server = Server(self.wire)
        self._stop = threading.Event()
        self._engine = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Kubeflow":
        self.server.start()
        self._engine.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.wire.late.set()
        self.server.stop()
        self._engine.join(timeout=30)
        assert not self._engine.is_alive(), "the engine of the stand-in hangs"
        assert self.server.failures == [], "the server of the stand-in broke"

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def runs(self) -> list[Object]:
        """Those that count: not archived."""
        with self.engine.lock:
            return [run for run in self.engine.runs.values() if run["storage_state"] != "ARCHIVED"]

    def fail(self, where: str, status: int = 0, **how: Any) -> Fault:
        """Lets calls of operations, such as create_run, fail; see `Fault`."""
        fault = Fault(where, status, **how)
        self.wire.faults.append(fault)
        return fault

    def fail_half(self, seed: int, share: float = 0.5) -> None:
        """Lets so many of all calls fail: refused, broken, or answered with an error, half of those carried out."""
        self.wire.chance = (random.Random(seed), share)

    def hold(self, *steps: str) -> None:
        """These steps begin and do not end."""
        with self.engine.lock:
            self.engine.held |= {_task(step) for step in steps}

    def release(self) -> None:
        with self.engine.lock:
            self.engine.held.clear()

    def break_step(self, step: str, *log: str, times: int = 1000, kept: bool = True) -> None:
        with self.engine.lock:
            self.engine.broken[_task(step)] = Break(log, times, kept)

    def cache(self, *steps: str) -> None:
        """KFP finds these steps in its cache."""
        with self.engine.lock:
            self.engine.cached |= {_task(step) for step in steps}

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "what the test waits for did not come"
            time.sleep(0.01)

    def fire(self, recurring_id: str) -> str:
        """What the clock does: starts the next run of a schedule."""
        with self.engine.lock:
            schedule = self.recurring[recurring_id]
            number = sum(run.get("recurring_run_id") == recurring_id for run in self.engine.runs.values()) + 1
            run = {key: schedule[key] for key in ("pipeline_version_reference", "runtime_config", "experiment_id")}
            run |= {"display_name": f"{schedule['display_name']}-{number}", "recurring_run_id": recurring_id}
            return str(self._start(run)["run_id"])

    def _run(self) -> None:
        while not self._stop.wait(PACE):
            self.engine.turn()

    def answer(self, call: Call) -> Object:
        """One call, as its operation's method here answers it.

        Raises:
            Refused: the answer is an error.
        """
        handler = getattr(self, f"_{call.operation.name}", None)
        if handler is None:
            raise Refused(501, "Unimplemented", f"the stand-in has no {call.operation.name}")
        with self.engine.lock:
            made: Object = handler(call)
            return json.loads(json.dumps(plain(build(call.operation.answer, made))))

    def _get_healthz(self, call: Call) -> Object:
        return {"multi_user": self.multi_user}

    def _create_experiment(self, call: Call) -> Object:
        self._namespaced(call.body.get("namespace"))
        return self._add(self.experiments, "experiment_id", call.body, ("display_name", "namespace"))

    def _list_experiments(self, call: Call) -> Object:
        return self._page(call, self.experiments, "experiments")

    def _get_experiment(self, call: Call) -> Object:
        return self._one(self.experiments, call.path["experiment_id"])

    def _create_pipeline(self, call: Call) -> Object:
        body = call.body | {"name": call.body.get("name") or call.body["display_name"]}
        return self._add(self.pipelines, "pipeline_id", body, ("name", "namespace"))

    def _list_pipelines(self, call: Call) -> Object:
        return self._page(call, self.pipelines, "pipelines")

    def _get_pipeline(self, call: Call) -> Object:
        return self._one(self.pipelines, call.path["pipeline_id"])

    def _get_pipeline_by_name(self, call: Call) -> Object:
        found = [pipeline for pipeline in self.pipelines.values() if pipeline["name"] == call.path["name"]]
        return self._one({pipeline["name"]: pipeline for pipeline in found}, call.path["name"])

    def _upload_pipeline_version(self, call: Call) -> Object:
        self._one(self.pipelines, call.query["pipelineid"])
        name = call.query["name"]
        documents = list(yaml.load_all(call.upload, Loader=LOADER))
        spec = {"pipeline_spec": documents[0], **({"platform_spec": documents[1]} if len(documents) > 1 else {})}
        body = {"pipeline_id": call.query["pipelineid"], "name": name, "pipeline_spec": spec}
        body |= {"display_name": call.query.get("display_name", name), "description": call.query.get("description", "")}
        made = self._add(self.versions, "pipeline_version_id", body, ("pipeline_id", "name"))
        self.wire.uploads.append(call.upload)
        return made

    def _list_pipeline_versions(self, call: Call) -> Object:
        of = call.path["pipeline_id"]
        versions = {key: version for key, version in self.versions.items() if version["pipeline_id"] == of}
        return self._page(call, versions, "pipeline_versions")

    def _get_pipeline_version(self, call: Call) -> Object:
        return self._one(self.versions, call.path["pipeline_version_id"])

    def _create_run(self, call: Call) -> Object:
        return self._detailed(self._start(dict(call.body)))

    def _get_run(self, call: Call) -> Object:
        return self._detailed(self._one(self.engine.runs, call.path["run_id"]))

    def _list_runs(self, call: Call) -> Object:
        runs = dict(self.engine.runs)
        if "experiment_id" in call.query:
            runs = {key: run for key, run in runs.items() if run["experiment_id"] == call.query["experiment_id"]}
        return self._page(call, runs, "runs")

    def _terminate_run(self, call: Call) -> Object:
        run = self._one(self.engine.runs, call.path["run_id"])
        if run["state"] in FINAL:
            raise Refused(400, "InvalidArgument", f"Failed to terminate run {run['run_id']}: it has ended")
        self.engine.terminate(run)
        return {}

    def _retry_run(self, call: Call) -> Object:
        run = self._one(self.engine.runs, call.path["run_id"])
        if run["state"] != "FAILED":
            raise Refused(400, "InvalidArgument", "Workflow must be Failed/Error to retry")
        self.engine.retry(run)
        return {}

    def _archive_run(self, call: Call) -> Object:
        self._one(self.engine.runs, call.path["run_id"])["storage_state"] = "ARCHIVED"
        return {}

    def _create_recurring_run(self, call: Call) -> Object:
        cron = call.body["trigger"].get("cron_schedule", {}).get("cron", "")
        if len(cron.split()) != 6:
            raise Refused(400, "InvalidArgument", f"Schedule cron is not supported: {cron}")
        self._one(self.versions, call.body["pipeline_version_reference"]["pipeline_version_id"])
        body = call.body | {"status": "ENABLED" if call.body.get("mode") == "ENABLE" else "DISABLED"}
        return self._add(self.recurring, "recurring_run_id", body, ())

    def _list_recurring_runs(self, call: Call) -> Object:
        return self._page(call, self.recurring, "recurringRuns")

    def _get_recurring_run(self, call: Call) -> Object:
        return self._one(self.recurring, call.path["recurring_run_id"])

    def _enable_recurring_run(self, call: Call) -> Object:
        self._one(self.recurring, call.path["recurring_run_id"])["status"] = "ENABLED"
        return {}

    def _disable_recurring_run(self, call: Call) -> Object:
        self._one(self.recurring, call.path["recurring_run_id"])["status"] = "DISABLED"
        return {}

    def _delete_recurring_run(self, call: Call) -> Object:
        del self.recurring[self._one(self.recurring, call.path["recurring_run_id"])["recurring_run_id"]]
        return {}

    def _start(self, run: Object) -> Object:
        version = self._one(self.versions, run["pipeline_version_reference"]["pipeline_version_id"])
        self._one(self.experiments, run["experiment_id"])
        try:
            self.engine.start(run, version["pipeline_spec"])
        except ValueError as error:
            raise Refused(400, "InvalidArgument", str(error)) from error
        return run

    def _detailed(self, run: Object) -> Object:
        return run | {"run_details": self.engine.details(run)}

    def _namespaced(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise Refused(400, "InvalidArgument", "In multi-user mode, a namespace must be given")

    @staticmethod
    def _add(things: dict[str, Object], identifier: str, body: Object, once: tuple[str, ...]) -> Object:
        taken = [thing for thing in things.values() if all(thing.get(key) == body.get(key) for key in once)]
        if once and taken:
            raise Refused(409, "AlreadyExists", f"the name {body['display_name']} already exists: choose another")
        made = body | {identifier: str(uuid.uuid4()), "created_at": now()}
        things[made[identifier]] = made
        return made

    @staticmethod
    def _one(things: dict[str, Object], identifier: str) -> Object:
        if identifier not in things:
            raise Refused(404, "NotFound", f"{identifier} not found")
        return things[identifier]

    def _page(self, call: Call, things: dict[str, Object], items: str) -> Object:
        """A page of a list, filtered; the token is the number of the next one's first."""
        if items in ("experiments", "pipelines"):
            self._namespaced(call.query.get("namespace"))
        chosen = [thing for thing in things.values() if _passes(thing, call.query.get("filter"))]
        if call.query.get("sort_by", "").endswith(" desc"):
            chosen.reverse()
        size, first = int(call.query.get("page_size") or 20), int(call.query.get("page_token") or 0)
        rest = {"next_page_token": str(first + size)} if first + size < len(chosen) else {}
        return {items: chosen[first : first + size], "total_size": len(chosen), **rest}


def _passes(thing: Object, filter_: str | None) -> bool:
    for predicate in json.loads(filter_)["predicates"] if filter_ else ():
        value = predicate.get("string_value", predicate.get("stringValue"))
        operation = _OPERATIONS.get(predicate["operation"], predicate["operation"])
        held = thing.get(predicate["key"], "")
        if not {1: held == value, 9: value in held}[operation]:
            return False
    return True


def _task(step: str) -> str:
    return step.replace("_", "-")
