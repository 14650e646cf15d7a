"""The runs of the stand-in: each moves through the tasks of its pipeline by itself, as Argo would move it.

A task waits for those before it, starts, and has ended at the next turn, unless the test holds or breaks it. With a
`Kubernetes` beside it a task that starts is a pod with the labels of the compiled pipeline, and one that fails leaves
its log there.
"""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.components.launch.kubernetes_api import NAMESPACE, Kubernetes
from tests.components.launch.kubernetes_pods import Log, stamp
from tests.pipelines.cluster.kubeflow_tasks import Object, Task, unroll

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Execution:
    """What the server knows of a run beside its record."""

    tasks: list[Task]
    pods: dict[str, Object]  # executor -> what Kubernetes is told
    ended: bool = False


@dataclass
class Break:
    """How a step fails: its log, and how often."""

    log: tuple[str, ...]
    times: int
    kept: bool = True  # the pod is still there when somebody looks


@dataclass
class Engine:
    """Moves every run on; `lock` guards all."""

    kubernetes: Kubernetes | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    runs: dict[str, Object] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    broken: dict[str, Break] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    most_at_once: int = 0

    def start(self, run: Object, spec: Object) -> None:
        """Begins a run.

        Raises:
            ValueError: it is given a parameter that its pipeline does not have.
        """
        tasks = unroll(spec["pipeline_spec"], run.get("runtime_config", {}).get("parameters", {}))
        platform = spec.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
        pods = platform.get("deploymentSpec", {}).get("executors", {})
        with self.lock:
            run |= {"run_id": str(uuid.uuid4()), "created_at": now(), "scheduled_at": now()}
            run |= {"storage_state": "AVAILABLE", "state_history": []}
            self.runs[run["run_id"]] = run
            self.executions[run["run_id"]] = Execution(tasks, pods)
            self._become(run, "PENDING")

    def turn(self) -> None:
        """One step of every run that goes on."""
        with self.lock:
            for run_id, execution in self.executions.items():
                if run_id in self.runs and not execution.ended:
                    self._turn(self.runs[run_id], execution)

    def terminate(self, run: Object) -> None:
        self._become(run, "CANCELING")

    def retry(self, run: Object) -> None:
        """What failed, or did not start, begins again; what succeeded stays."""
        execution = self.executions[run["run_id"]]
        for task in execution.tasks:
            if task.state in ("FAILED", "CANCELED"):
                self._remove_pod(run, task)
                self._set(task, "PENDING")
        execution.ended = False
        run.pop("finished_at", None)
        run.pop("error", None)
        self._become(run, "RUNNING")

    def details(self, run: Object) -> Object:
        """`run_details`: for each task its driver and itself, and the nodes that hold them, as Argo has them."""
        nodes = [
            self._node(run, "root", run["state"]),
            self._node(run, "root-driver", "SUCCEEDED"),
        ]
        for task in self.executions[run["run_id"]].tasks:
            if not task.history:
                continue  # Argo has no node for what has not begun
            nodes.append(self._node(run, f"{task.name}-driver", "SUCCEEDED", task))
            nodes.append(self._node(run, task.name, task.state, task))
        return {"task_details": nodes}

    def _turn(self, run: Object, execution: Execution) -> None:
        if run["state"] == "CANCELING":
            for task in execution.tasks:
                if task.state not in FINAL and task.history:
                    self._set(task, "CANCELED")
            return self._end(run, execution, "CANCELED")
        if run["state"] == "PENDING":
            self._become(run, "RUNNING")
        states = {task.path: task.state for task in execution.tasks}
        for task in execution.tasks:
            if task.state == "RUNNING" and task.name not in self.held:
                self._finish(run, task)
            elif task.state == "PENDING" and all(states[path] in ("SUCCEEDED", "SKIPPED") for path in task.after):
                self._begin(run, execution, task)
        after = {task.state for task in execution.tasks}
        if "RUNNING" not in after and "FAILED" in after:
            run["error"] = {"code": 2, "message": "one of the tasks failed"}
            self._end(run, execution, "FAILED")
        elif after <= {"SUCCEEDED", "SKIPPED"}:
            self._end(run, execution, "SUCCEEDED")
        self.most_at_once = max(self.most_at_once, sum(task.state == "RUNNING" for task in execution.tasks))

    def _begin(self, run: Object, execution: Execution, task: Task) -> None:
        if task.name in self.cached:
            return self._set(task, "SKIPPED")
        task.attempt += 1
        self._set(task, "RUNNING")
        if self.kubernetes is not None:
            labels = execution.pods.get(task.executor, {}).get("podMetadata", {}).get("labels", {})
            self.kubernetes.store.create("pods", NAMESPACE, self._pod(run, task, labels))

    def _finish(self, run: Object, task: Task) -> None:
        how = self.broken.get(task.name)
        if how is None or how.times == 0:
            return self._end_pod(run, task, "Succeeded", 0, ("done",))
        how.times -= 1
        task.error = "main: exit code 1"
        self._end_pod(run, task, "Failed", 1, how.log)
        if not how.kept:
            self._remove_pod(run, task)

    def _end(self, run: Object, execution: Execution, state: str) -> None:
        execution.ended = True
        run["finished_at"] = now()
        self._become(run, state)

    def _become(self, run: Object, state: str) -> None:
        run["state"] = state
        run["state_history"].append({"update_time": now(), "state": state})

    @staticmethod
    def _set(task: Task, state: str) -> None:
        task.state = state
        task.history.append((now(), state))

    @staticmethod
    def _node(run: Object, name: str, state: str, task: Task | None = None) -> Object:
        place = f"{task.path}-" if task else ""
        identity = f"{run['display_name']}-{place}{name}"
        node = {"run_id": run["run_id"], "task_id": identity, "display_name": name, "state": state}
        if task is None:
            return node | {"create_time": run["created_at"]}
        node |= {"create_time": task.history[0][0], "start_time": task.history[0][0]}
        node["state_history"] = [{"update_time": at, "state": then} for at, then in task.history]
        if task.state in FINAL:
            node["end_time"] = task.history[-1][0]
        if task.error and state == "FAILED":
            node["error"] = {"code": 2, "message": task.error}
        return node | {"child_tasks": [{"pod_name": pod_name(run, task)}]}

    @staticmethod
    def _pod(run: Object, task: Task, labels: dict[str, str]) -> Object:
        name = pod_name(run, task)
        return {
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"pipeline/runid": run["run_id"], **labels}},
            "spec": {"containers": [{"name": "main"}, {"name": "wait"}]},
            "status": {"phase": "Running", "containerStatuses": [], "conditions": []},
        }

    def _end_pod(self, run: Object, task: Task, phase: str, code: int, lines: tuple[str, ...]) -> None:
        if self.kubernetes is not None:
            name = pod_name(run, task)
            self.kubernetes.kubelet.logs[name] = Log([(stamp(), line) for line in lines], ended=True)

            def end(pod: Object) -> None:
                pod["status"]["phase"] = phase
                ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": now()}
                pod["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": ended}}]

            self.kubernetes.store.change("pods", NAMESPACE, name, end)
        self._set(task, "FAILED" if code else "SUCCEEDED")

    def _remove_pod(self, run: Object, task: Task) -> None:
        if self.kubernetes is not None:
            self.kubernetes.store.remove("pods", NAMESPACE, pod_name(run, task))


def pod_name(run: Object, task: Task) -> str:
    path = task.path.replace("/", "-").replace("[", "-").replace("]", "")
    return f"{run['display_name']}-{run['run_id'][:5]}-{path}-{task.attempt}"


def alone(runs: dict[str, Object], name: str) -> Iterator[Object]:
    """The runs of that name that were not ended as duplicates."""
    return (run for run in runs.values() if run["display_name"] == name and run["storage_state"] != "ARCHIVED")
