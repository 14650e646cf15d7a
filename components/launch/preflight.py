"""What can be known to be missing before a job is submitted: each thing is one sentence.

The custom resource and its runtime, the permission for every verb that the launcher uses, room in the quotas, storage
that all pods can write to, and at last the API's own dry run, which asks the schema and the admission webhooks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from kubernetes.client import ApiException, AuthorizationV1Api
from kubernetes.utils.quantity import parse_quantity

from components.adapters.api_calls import brief
from components.launch.cluster import Cluster
from components.launch.kinds import JobKind, Object
from model.errors import UserError

STORAGE = "LINGBOT_STORAGE"


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The checks of one kind of job in one namespace."""

    cluster: Cluster

    def check(self, manifest: Object, *, runs_already: Callable[[], bool]) -> None:
        """Raises UserError with what is missing for this manifest. A job that `runs_already` is the one that fills the
        quotas."""
        self._installed()
        self._permitted(manifest)
        self._runtime(manifest)
        if not runs_already():
            self._room(manifest)
        self._storage(manifest)
        self._dry_run(manifest)

    @property
    def kind(self) -> JobKind:
        return self.cluster.kind

    @property
    def namespace(self) -> str:
        return self.cluster.namespace

    def _installed(self) -> None:
        kind = self.kind
        group = f"{kind.group}/{kind.version}"
        read, resources = self.cluster.read_or_none, self.cluster.custom.get_api_resources
        known = read(resources, f"asking for {group}", kind.group, kind.version) or {"resources": []}
        if kind.plural not in {resource["name"] for resource in known["resources"]}:
            raise UserError(
                f"the cluster at {self.cluster.host} knows no {kind.kind} ({group}): "
                f"install {kind.operator}, or choose another launcher."
            )

    def _permitted(self, manifest: Object) -> None:
        review = AuthorizationV1Api(self.cluster.api).create_self_subject_access_review
        refused = []
        for verb, group, resource, sub in self._verbs(manifest):
            attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes | ({"subresource": sub} if sub else {})},
            }
            if not self.cluster.read(review, "asking for permissions", body)["status"].get("allowed", False):
                refused.append(f"{verb} {resource}{'/' + sub if sub else ''}{'.' + group if group else ''}")
        if refused:
            raise UserError(
                f"you may not {', '.join(refused)} in namespace '{self.namespace}' of {self.cluster.host}: "
                "ask its administrator for a Role with these verbs."
            )

    def _verbs(self, manifest: Object) -> Iterator[tuple[str, str, str, str]]:
        """(verb, group, resource, subresource) of all that the launcher and these checks ask for."""
        for verb in ("create", "get", "list", "watch", "delete"):
            yield verb, self.kind.group, self.kind.plural, ""
        for verb in ("get", "list", "watch"):
            yield verb, "", "pods", ""
        yield "get", "", "pods", "log"
        yield "list", "", "events", ""
        yield "list", "", "resourcequotas", ""
        if any(group.claims for group in self.kind.pods(manifest)):
            yield "get", "", "persistentvolumeclaims", ""
        if self.kind.runtimes:
            yield "get", self.kind.group, self.kind.runtimes, ""

    def _runtime(self, manifest: Object) -> None:
        if not self.kind.runtimes:
            return
        name = manifest["spec"]["runtimeRef"]["name"]
        get = self.cluster.custom.get_namespaced_custom_object
        place = (self.kind.group, self.kind.version, self.namespace, self.kind.runtimes, name)
        if self.cluster.read_or_none(get, f"looking for runtime '{name}'", *place) is None:
            raise UserError(
                f"namespace '{self.namespace}' of {self.cluster.host} has no {manifest['spec']['runtimeRef']['kind']} "
                f"'{name}': apply the one that this project makes, or name another as `runtime` in the settings."
            )

    def _room(self, manifest: Object) -> None:
        asked = self.demand(manifest)
        quotas = self.cluster.read(self.cluster.core.list_namespaced_resource_quota, "reading quotas", self.namespace)
        for quota in quotas["items"]:
            if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
                continue  # counts some pods only: the scheduler's events say when it refuses ours
            status = quota.get("status", {})
            for resource, limit in status.get("hard", {}).items():
                left = parse_quantity(limit) - parse_quantity(status.get("used", {}).get(resource, 0))
                if asked.get(resource, Decimal(0)) > left:
                    raise UserError(
                        f"the job asks for {plain(asked[resource])} of {resource}, and quota "
                        f"'{quota['metadata']['name']}' of namespace '{self.namespace}' has {plain(left)} of {limit} "
                        "left: ask for fewer nodes or processes, or wait until others have ended."
                    )

    def demand(self, manifest: Object) -> Mapping[str, Decimal]:
        """What the job counts for, by the names that a quota has for it."""
        total = {f"count/{self.kind.plural}.{self.kind.group}": Decimal(1)}
        for group in self.kind.pods(manifest):
            limits = dict(group.resources.get("limits", {}))
            requests = limits | dict(group.resources.get("requests", {}))  # what has a limit alone requests it
            names = {"pods": 1, "count/pods": 1}
            names |= {f"limits.{resource}": amount for resource, amount in limits.items()}
            names |= {f"requests.{resource}": amount for resource, amount in requests.items()}
            names |= {resource: requests[resource] for resource in ("cpu", "memory") if resource in requests}
            for name, amount in names.items():
                total[name] = total.get(name, Decimal(0)) + group.count * parse_quantity(amount)
        return total

    def _storage(self, manifest: Object) -> None:
        groups = self.kind.pods(manifest)
        claims = sorted({claim for group in groups for claim in group.claims})
        stores = {group.environment.get(STORAGE, "") for group in groups}
        if not claims and not all(store.startswith("s3://") for store in stores):
            raise UserError(
                f"the job has no storage that all its pods write to ({STORAGE} is '{stores.pop()}'): set {STORAGE} to "
                "an s3:// address, or name a persistent volume claim that is ReadWriteMany."
            )
        for claim in claims:
            self._claim(claim)

    def _claim(self, claim: str) -> None:
        what, fix = f"reading claim '{claim}'", "name one that is Bound and ReadWriteMany, or an s3:// address."
        get = self.cluster.core.read_namespaced_persistent_volume_claim
        found = self.cluster.read_or_none(get, what, claim, self.namespace)
        if found is None:
            raise UserError(f"namespace '{self.namespace}' has no persistent volume claim '{claim}': {fix}")
        phase, modes = found.get("status", {}).get("phase", ""), found["spec"].get("accessModes", [])
        if phase != "Bound":
            raise UserError(f"persistent volume claim '{claim}' is {phase or 'new'}, not Bound: {fix}")
        if "ReadWriteMany" not in modes:
            raise UserError(
                f"persistent volume claim '{claim}' is {' and '.join(modes)}, which several nodes cannot share: {fix}"
            )

    def _dry_run(self, manifest: Object) -> None:
        create = self.cluster.custom.create_namespaced_custom_object
        try:
            self.cluster.read(create, "a dry run", *self.cluster.place, manifest, dry_run="All")
        except ApiException as error:
            if error.status == 409:
                return  # it exists: whether it is ours is found out when it is submitted
            raise UserError(
                f"the cluster at {self.cluster.host} would not accept the {self.kind.kind} ({brief(error)}): change "
                "the settings that the message names."
            ) from error


def plain(amount: Decimal) -> str:
    """A quantity as a person writes it: no exponent, no trailing zeros."""
    return f"{amount.normalize():f}"
