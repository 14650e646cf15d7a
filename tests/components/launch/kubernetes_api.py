"""A stand-in for a Kubernetes cluster, on loopback: what the official client and the launcher talk to in tests.

`Kubernetes` keeps objects (`kubernetes_store`), runs the controllers (`kubernetes_jobs`) and the pods as processes
(`kubernetes_pods`), and answers over HTTP (`kubernetes_http`). Its methods are what goes wrong in a cluster.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, Configuration

from components.launch.cluster import client
from tests.components.launch.kubernetes_http import Server
from tests.components.launch.kubernetes_jobs import Controllers
from tests.components.launch.kubernetes_pods import Command, Kubelet, set_condition
from tests.components.launch.kubernetes_schemas import complaints
from tests.components.launch.kubernetes_store import Object, Store, now
from tests.components.launch.kubernetes_wire import Wire
from tests.loopback import Fault, Refused

NAMESPACE = "lingbot"
INSTALLED = {
    ("kubeflow.org", "v1"): {"pytorchjobs"},
    ("trainer.kubeflow.org", "v1alpha1"): {"trainjobs", "trainingruntimes", "clustertrainingruntimes"},
}


class Kubernetes:
    """A cluster of one namespace. A context: nothing of it is left after its end."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Command | None = None,
        definitions: Path | None = None,
        refuse: Callable[[Object], str] | None = None,
    ) -> None:
        """
        Args:
            folder: for the termination messages of the pods.
            command: what is run for a pod, from (pod, the container's command, its environment).
            definitions: the folder with `crds/`; without it manifests are not validated.
            refuse: an admission webhook: why an object is not accepted; "" when it is.
        """
        self.store = Store()
        self.kubelet = Kubelet(self.store, folder, command)
        self.controllers = Controllers(self.store, self.kubelet)
        self.definitions = definitions
        self.refuse = refuse
        resources = {group: set(plurals) for group, plurals in INSTALLED.items()}
        self.wire = Wire(self.store, self.kubelet, self._admit, resources)
        self.server = Server(self.wire)

    def __enter__(self) -> "Kubernetes":
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.controllers.close()
        self.kubelet.close()
        self.server.sever()
        self.server.stop()
        assert self.controllers.failure is None, "a controller of the stand-in broke"
        assert self.server.failures == [], "the server of the stand-in broke"
        self.until(lambda: self.kubelet.alive() == [])  # processes of pods do not outlive their cluster

    @property
    def url(self) -> str:
        return self.server.url

    def client(self) -> ApiClient:
        configuration = Configuration()
        configuration.host = self.url
        return client(configuration)

    def fail(self, where: str, status: int = 0, **how: Any) -> Fault:
        """Lets requests fail; see `Fault`."""
        fault = Fault(where, status, **how)
        self.wire.faults.append(fault)
        return fault

    def deny(self, verb: str, resource: str) -> None:
        self.wire.denied.add((verb, resource))

    def uninstall(self, plural: str) -> None:
        for plurals in self.wire.resources.values():
            plurals.discard(plural)

    def add(self, resource: str, body: Object) -> None:
        """A quota, a claim, a runtime: what a platform team has put there."""
        self.store.create(resource, NAMESPACE, body)

    def hold(self, why: str | None) -> None:
        """The scheduler places no pod, for this reason, until it is None."""
        with self.store.changed:
            self.controllers.held = why
            self.store.version += 1
            self.store.changed.notify_all()

    def pods(self) -> list[Object]:
        return self.store.select("pods", NAMESPACE)

    def jobs(self) -> list[Object]:
        return [*self.store.select("pytorchjobs", NAMESPACE), *self.store.select("trainjobs", NAMESPACE)]

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Waits for something to be so; fails when it does not come."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "what the test waits for did not come"
            with self.store.changed:
                self.store.changed.wait(0.05)

    def logged(self, text: str, count: int = 1, pods: str = "") -> bool:
        """Whether so many lines of pods, of those with `pods` in their names, hold a text."""
        logs = [log for name, log in list(self.kubelet.logs.items()) if pods in name]  # a pod may start meanwhile
        return sum(text in line for log in logs for _, line in log.lines) >= count

    def evict(self, *names: str, reason: str = "EvictionByEvictionAPI") -> None:
        """What a drain or the scheduler's preemption does: pods are marked, told to stop, and deleted; several in one
        moment, before anybody sees the first of them gone."""
        with self.store.changed:
            for name in names:
                self._disrupt(name, reason)
                found = self.store.get("pods", NAMESPACE, name)
                assert found is not None
                self.controllers.delete_pod(found)

    def kill_for_memory(self, name: str) -> None:
        self.kubelet.kill(name, "OOMKilled")

    def lose_node(self, name: str) -> None:
        """The node under a pod is gone: nobody reports its end, and the pod stays, marked, until `remove_node`."""
        self.kubelet.lose(name)
        self._disrupt(name, "DeletionByTaintManager")
        found = self.store.get("pods", NAMESPACE, name)
        assert found is not None
        self.controllers.delete_pod(found, grace=0.1)

    def remove_node(self, name: str) -> None:
        """The node's object goes, and with it its pods."""
        self.kubelet.forget(name)
        self.store.remove("pods", NAMESPACE, name)

    def delete_job(self, name: str) -> None:
        """Somebody deletes the job."""
        mark = {"deletionTimestamp": now()}
        for resource in ("pytorchjobs", "trainjobs"):
            self.store.change(resource, NAMESPACE, name, lambda found: found["metadata"].update(mark))

    def _disrupt(self, name: str, reason: str) -> None:
        def mark(pod: Object) -> None:
            set_condition(pod["status"]["conditions"], "DisruptionTarget", "True", reason, "the pod has to go")

        self.store.change("pods", NAMESPACE, name, mark)

    def _admit(self, body: Object) -> None:
        if self.definitions is not None and body["kind"] in ("PyTorchJob", "TrainJob"):
            found = complaints(self.definitions, json.loads(json.dumps(body)))
            if found:
                raise Refused(422, "Invalid", f'{body["kind"]} "{body["metadata"]["name"]}" is invalid: {found[0]}')
        why = self.refuse(body) if self.refuse is not None else ""
        if why:
            raise Refused(400, "BadRequest", f"admission webhook denied the request: {why}")
