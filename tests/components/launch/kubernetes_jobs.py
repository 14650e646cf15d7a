"""The controllers of the stand-in: the operators of PyTorchJob and TrainJob, the scheduler, the garbage collector.

One thread looks at all jobs and pods whenever the store changes. It makes the pods that a job lacks, as the real ones
do also after a pod was deleted, starts them, keeps the conditions of the job, ends jobs at their deadline, and takes
away what has lost its owner.
"""

import contextlib
import copy
import random
import socket
import threading
import time
from typing import Any

from tests.components.launch.kubernetes_pods import Kubelet, set_condition
from tests.components.launch.kubernetes_store import Object, Store, now

JOBS = {"pytorchjobs": "PyTorchJob", "trainjobs": "TrainJob"}
FINISHED = {"Succeeded", "Complete", "Failed"}


def finished(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(condition["type"] in FINISHED and condition["status"] == "True" for condition in conditions)


def free_port() -> int:
    """For the ranks to meet at, a while from now: of those that the system gives to nobody who asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def owner_of(pod: Object) -> str | None:
    """The uid of a pod's job; None: it belongs to a controller that is not here, such as Argo's."""
    references = pod["metadata"].get("ownerReferences")
    return str(references[0]["uid"]) if references else None


def pytorch_pods(job: Object, port: int) -> list[Object]:
    """A pod a replica, named and labelled as training-operator 1.9 does, torchrun's settings in its environment."""
    name, spec = job["metadata"]["name"], job["spec"]
    replicas = [
        (kind, index, replica["template"])
        for kind, replica in sorted(spec["pytorchReplicaSpecs"].items())
        for index in range(int(replica.get("replicas", 1)))
    ]
    elastic = spec.get("elasticPolicy", {})
    environment = {
        "PET_NPROC_PER_NODE": spec.get("nprocPerNode", elastic.get("nProcPerNode", 1)),
        "PET_NNODES": f"{elastic['minReplicas']}:{elastic['maxReplicas']}" if elastic else len(replicas),
    }
    if elastic:
        environment |= {
            "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}",
            "PET_RDZV_BACKEND": elastic.get("rdzvBackend", "c10d"),
            "PET_RDZV_ID": elastic.get("rdzvId", name),
            "PET_MAX_RESTARTS": elastic.get("maxRestarts", 0),
        }
    pods = []
    for rank, (kind, index, template) in enumerate(replicas):
        labels = {
            "training.kubeflow.org/job-name": name,
            "training.kubeflow.org/operator-name": "pytorchjob-controller",
            "training.kubeflow.org/replica-type": kind.lower(),
            "training.kubeflow.org/replica-index": str(index),
        }
        place = {} if elastic else {"PET_NODE_RANK": rank, "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
        pods.append(pod(f"{name}-{kind.lower()}-{index}", template, labels, environment | place))
    return pods


def train_job_pods(job: Object, runtime: Object, port: int) -> list[Object]:
    """The pods of the JobSet that the trainer makes of a TrainJob and its runtime."""
    name, trainer = job["metadata"]["name"], job["spec"].get("trainer", {})
    replicated = copy.deepcopy(runtime["spec"]["template"]["spec"]["replicatedJobs"][0])
    template = replicated["template"]["spec"]["template"]
    container = template["spec"]["containers"][0]
    container |= {key: trainer[key] for key in ("image", "command", "args") if key in trainer}
    container["env"] = [*container.get("env", []), *trainer.get("env", [])]
    count = int(trainer.get("numNodes", runtime["spec"].get("mlPolicy", {}).get("numNodes", 1)))
    pods = []
    for index in range(count):
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-name": replicated["name"],
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        environment = {
            "PET_NNODES": count,
            "PET_NPROC_PER_NODE": trainer.get("numProcPerNode", 1),
            "PET_NODE_RANK": index,
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
        }
        pods.append(
            pod(f"{name}-{replicated['name']}-0-{index}-{job['metadata']['uid'][:5]}", template, labels, environment)
        )
    return pods


def pod(name: str, template: Object, labels: dict[str, str], environment: dict[str, Any]) -> Object:
    made = {"metadata": copy.deepcopy(template.get("metadata", {})), "spec": copy.deepcopy(template["spec"])}
    made["metadata"]["name"] = name
    made["metadata"]["labels"] = made["metadata"].get("labels", {}) | labels
    container = made["spec"]["containers"][0]
    known = {entry["name"] for entry in container.get("env", [])}
    added = [{"name": key, "value": str(value)} for key, value in environment.items() if key not in known]
    container["env"] = [*container.get("env", []), *added]
    made["status"] = {"phase": "Pending", "conditions": []}
    return made


class Controllers:
    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self.store = store
        self.kubelet = kubelet
        self.held: str | None = None  # why the scheduler places no pod
        self.grace = 60.0  # seconds, at most, of a pod that ends; a process may stand still for a while
        self._began: dict[str, float] = {}
        self._ports: dict[str, int] = {}
        self._handled: set[str] = set()
        self._stop = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="controllers")
        self._thread.start()

    def close(self) -> None:
        with self.store.changed:
            self._stop = True
            self.store.changed.notify_all()
        self._thread.join(timeout=30)

    def event(self, namespace: str, about: Object, reason: str, message: str) -> None:
        name = f"{about['metadata']['name']}.{reason.lower()}"
        involved = {"name": about["metadata"]["name"], "uid": about["metadata"]["uid"]}
        body = {
            "metadata": {"name": name},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": "Warning",
            "lastTimestamp": now(),
        }
        if self.store.get("events", namespace, name) is None:
            self.store.create("events", namespace, body)

    def delete_pod(self, found: Object, grace: float | None = None) -> None:
        """Marks the pod and lets the kubelet end it."""
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        if grace is None:
            grace = min(self.grace, float(found["spec"].get("terminationGracePeriodSeconds", 30)))

        def mark(edited: Object) -> None:
            edited["metadata"].setdefault("deletionTimestamp", now())
            edited["metadata"].setdefault("deletionGracePeriodSeconds", grace)

        self.store.change("pods", namespace, name, mark)
        if found["metadata"]["uid"] not in self._handled:
            self._handled.add(found["metadata"]["uid"])
            self.kubelet.terminate(namespace, name, grace)

    def _run(self) -> None:
        seen = 0
        try:
            while not self._stop:
                with self.store.changed:
                    if self.store.version == seen:
                        self.store.changed.wait(0.1)
                    seen = self.store.version
                self._pass()
        except BaseException as error:
            self.failure = error  # told by the stand-in at its end
            raise

    def _pass(self) -> None:
        for resource, kind in JOBS.items():
            for job in self.store.everywhere(resource):
                self._job(resource, kind, job)
        for found in self.store.everywhere("pods"):
            self._pod(found)

    def _job(self, resource: str, kind: str, job: Object) -> None:
        namespace, name, uid = (job["metadata"][key] for key in ("namespace", "name", "uid"))
        pods = {pod["metadata"]["name"]: pod for pod in self._pods_of(job)}
        if "deletionTimestamp" in job["metadata"]:
            for found in pods.values():
                self.delete_pod(found)
            if not pods:
                self.store.remove(resource, namespace, name)
            return
        spec = job["spec"]
        policy = spec.get("runPolicy", {})
        began = self._began.setdefault(uid, time.monotonic())
        if finished(job):
            self._clean(resource, job, list(pods.values()), policy)
            return
        if policy.get("suspend", spec.get("suspend", False)):
            self._condition(resource, job, "Suspended", "JobSuspended", "suspended")
            return
        deadline = policy.get("activeDeadlineSeconds", spec.get("activeDeadlineSeconds"))
        if deadline is not None and time.monotonic() - began > deadline:
            self._past_deadline(resource, kind, job, list(pods.values()))
            return
        port = self._ports.setdefault(uid, free_port())
        wanted = pytorch_pods(job, port) if kind == "PyTorchJob" else self._train_job_pods(job, port)
        for made in wanted:
            if made["metadata"]["name"] not in pods:
                owner = {"kind": kind, "name": name, "uid": uid, "apiVersion": job["apiVersion"]}
                made["metadata"]["ownerReferences"] = [owner | {"controller": True, "blockOwnerDeletion": True}]
                self.store.create("pods", namespace, made)
        phases = [
            pods[made["metadata"]["name"]]["status"]["phase"] for made in wanted if made["metadata"]["name"] in pods
        ]
        if "Failed" in phases:
            self._condition(
                resource, job, "Failed", f"{kind}Failed", f"{kind} {name} is failed because a replica failed."
            )
        elif phases and phases.count("Succeeded") == len(wanted):
            ended = "Succeeded" if kind == "PyTorchJob" else "Complete"
            self._condition(resource, job, ended, f"{kind}Succeeded", f"{kind} {name} successfully completed.")
        elif "Running" in phases and kind == "PyTorchJob":
            self._condition(resource, job, "Running", "PyTorchJobRunning", f"{kind} {name} is running.")

    def _past_deadline(self, resource: str, kind: str, job: Object, pods: list[Object]) -> None:
        if kind == "PyTorchJob":
            text = f"Job {job['metadata']['name']} has failed because it was active longer than specified deadline"
            self._condition(resource, job, "Failed", "PyTorchJobFailed", text)
        else:
            self._condition(resource, job, "Failed", "DeadlineExceeded", "TrainJob exceeded its active deadline")
        for found in pods:
            self.delete_pod(found)

    def _clean(self, resource: str, job: Object, pods: list[Object], policy: Object) -> None:
        clean = policy.get("cleanPodPolicy", "None")
        for found in pods:
            if clean == "All" or (clean == "Running" and found["status"]["phase"] == "Running"):
                self.delete_pod(found)

    def _condition(self, resource: str, job: Object, kind: str, reason: str, message: str) -> None:
        def edit(edited: Object) -> None:
            conditions = edited.setdefault("status", {}).setdefault("conditions", [])
            if not any(condition["type"] == kind and condition["status"] == "True" for condition in conditions):
                set_condition(conditions, kind, "True", reason, message)

        self.store.change(resource, job["metadata"]["namespace"], job["metadata"]["name"], edit)

    def _train_job_pods(self, job: Object, port: int) -> list[Object]:
        runtime = self.store.get("trainingruntimes", job["metadata"]["namespace"], job["spec"]["runtimeRef"]["name"])
        return [] if runtime is None else train_job_pods(job, runtime, port)

    def _pods_of(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.store.everywhere("pods") if owner_of(pod) == uid]

    def _pod(self, found: Object) -> None:
        metadata, owner = found["metadata"], owner_of(found)
        if owner is None:
            return
        owners = {job["metadata"]["uid"] for resource in JOBS for job in self.store.everywhere(resource)}
        if owner not in owners:
            self.delete_pod(found)
        elif found["status"]["phase"] == "Pending" and "deletionTimestamp" not in metadata:
            if self.held is not None:
                self.event(metadata["namespace"], found, "FailedScheduling", self.held)
            elif metadata["uid"] not in self._began:
                self._began[metadata["uid"]] = time.monotonic()
                self.kubelet.start(found)
