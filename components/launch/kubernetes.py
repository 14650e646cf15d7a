"""Training jobs on Kubernetes, as a PyTorchJob or a TrainJob: back ends of `outcomes.Launcher`.

What is known of a job stands in the cluster alone. A launcher that died is replaced by its next start, which finds the
job by its labels, adopts it when the digests are equal, and follows it from there.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator

from kubernetes.client import ApiClient, ApiException

from components.adapters.api_calls import brief
from components.launch import logs, pods
from components.launch.cluster import Cluster, Patience
from components.launch.following import Ending, Followed
from components.launch.job import JobSpec
from components.launch.kinds import KINDS, Object
from components.launch.outcomes import Outcome
from components.launch.preflight import Preflight
from components.launch.session import Session
from components.launch.settings import ClusterSettings
from model.errors import UserError

_POLL_SECONDS = 5.0
_MAX_REASONS = 20  # why pods did not start, in the message


class KubernetesLauncher:
    """Runs each job as one custom resource of a cluster. `outcomes.Launcher` says what the methods promise."""

    def __init__(self, api: ApiClient, settings: ClusterSettings, patience: Patience | None = None) -> None:
        self.settings = settings
        self.cluster = Cluster(
            api=api, namespace=settings.namespace, kind=KINDS[settings.job], patience=patience or Patience()
        )

    def preflight(self, spec: JobSpec) -> None:
        checks = Preflight(cluster=self.cluster)
        checks.check(self._manifest(spec), runs_already=lambda: self.find(spec) is not None)

    def find(self, spec: JobSpec) -> JobSpec | None:
        cluster = self.cluster
        listed = cluster.read(
            cluster.custom.list_namespaced_custom_object,
            f"looking for jobs of run {spec.run}",
            *cluster.place,
            label_selector=pods.selector(spec),
        )
        jobs = [job for job in listed["items"] if "deletionTimestamp" not in job["metadata"]]
        if not jobs:
            return None
        newest = max(jobs, key=lambda job: int(job["metadata"]["labels"][pods.ATTEMPT]))
        self._same(newest, pods.SPEC_DIGEST, spec.digest)
        return dataclasses.replace(spec, attempt=int(newest["metadata"]["labels"][pods.ATTEMPT]))

    def submit(self, spec: JobSpec) -> str:
        cluster, manifest = self.cluster, self._manifest(spec)
        name: str = manifest["metadata"]["name"]
        while True:
            try:
                create = cluster.custom.create_namespaced_custom_object
                cluster.read(create, f"submitting {name}", *cluster.place, manifest)
                return name
            except ApiException as error:
                if error.status != 409:
                    raise UserError(
                        f"the cluster does not accept {cluster.kind.kind} {name} ({brief(error)}): change the settings "
                        "that the message names."
                    ) from error
            there = cluster.job(name)
            if there is not None and "deletionTimestamp" not in there["metadata"]:
                self._same(there, pods.SPEC_DIGEST, spec.digest)
                self._same(there, pods.MANIFEST_DIGEST, manifest["metadata"]["annotations"][pods.MANIFEST_DIGEST])
                return name
            self._wait_until_gone(name)  # somebody deletes it: a new one of that name comes after it

    def follow(self, name: str, on_line: Callable[[str], None]) -> Outcome:
        start, settle = self.settings.limits.no_pod, self.cluster.patience.settle
        followed = Followed(self.cluster.kind, start=start, settle=settle, now=time.monotonic())
        with Session(self.cluster, name, followed, on_line) as session:
            verdict = session.verdict()
        tails = {}
        for ending in verdict.endings:
            rank, text = self._tail(ending, gone=ending.uid in followed.gone)
            tails[rank] = text
            if ending.node:  # the log of node 0 was given already
                who = f"rank {rank}" if rank.isdigit() else rank
                for line in text.splitlines():
                    on_line(f"[{who}] {line}")
        reasons = [reason for waiting in verdict.waiting for reason in self._reasons(waiting, followed)]
        code = verdict.endings[0].exit_code if verdict.endings else (0 if verdict.kind == "succeeded" else None)
        message = "; ".join([verdict.message, *reasons[:_MAX_REASONS]])
        return Outcome(kind=verdict.kind, message=message, exit_code=code, logs=tails)

    def delete(self, name: str) -> None:
        cluster = self.cluster
        remove = cluster.custom.delete_namespaced_custom_object
        # Foreground: the job's object goes last, when none of its pods is left.
        foreground = {"propagation_policy": "Foreground"}
        cluster.read_or_none(remove, f"deleting {name}", *cluster.place, name, **foreground)
        self._wait_until_gone(name)

    def _manifest(self, spec: JobSpec) -> Object:
        return self.cluster.kind.build(spec, self.settings)

    def _same(self, job: Object, annotation: str, digest: str) -> None:
        there = job["metadata"].get("annotations", {}).get(annotation, "none")
        if there != digest:
            raise UserError(
                f"{self.cluster.kind.kind} {job['metadata']['name']} in namespace '{self.cluster.namespace}' is "
                f"another job: its {annotation} is {there}, and this one's is {digest}. Delete it, or start a new run."
            )

    def _tail(self, ending: Ending, *, gone: bool) -> tuple[str, str]:
        """The last lines of a pod that failed: of the rank that failed first in it, where the node could say."""
        if ending.report is not None and ending.report.rank >= 0:
            return str(ending.report.rank), ending.report.tail
        text = "" if gone else logs.tail(self.cluster, ending.pod, previous=ending.previous)
        return f"node {ending.node}", text

    def _reasons(self, name: str, followed: Followed) -> Iterator[str]:
        """What the cluster says of something that did not start: its events, and what its containers wait for."""
        found = [pod for pod in followed.pods.values() if pod["metadata"]["name"] == name]
        for status in [status for pod in found for status in pod["status"].get("containerStatuses", [])]:
            waits = status.get("state", {}).get("waiting", {})
            if "reason" in waits:
                yield f"{name}: {waits['reason']} {waits.get('message', '')}".strip()
        for event in self.cluster.events(name):
            yield f"{name}: {event.get('reason', '')} {event.get('message', '')}".strip()

    def _wait_until_gone(self, name: str) -> None:
        patience = self.cluster.patience
        end, pause = time.monotonic() + patience.delete, patience.first
        while True:
            job, left = self.cluster.job(name), self.cluster.pods(name)
            if job is None and not left:
                return
            if time.monotonic() > end:
                names = [pod["metadata"]["name"] for pod in left] + ([] if job is None else [name])
                raise UserError(
                    f"{', '.join(names)} in namespace '{self.cluster.namespace}' did not go within "
                    f"{patience.delete:.0f} s of being deleted: when their node is gone for good, "
                    "`kubectl delete --force` them."
                )
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS)
