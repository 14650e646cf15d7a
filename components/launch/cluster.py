"""One kind of job in one namespace of one cluster: the launcher's calls, each tried until it is answered."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api, CustomObjectsApi
from yaml import YAMLError

from components.adapters import api_calls
from components.adapters.api_calls import ONCE, Caller, Service
from components.launch.kinds import JobKind, Object
from model.errors import UserError

KUBECONFIG = "~/.kube/config"
KUBERNETES = Service(
    name="the Kubernetes API",
    error=ApiException,
    away="start the run again when it does: a job that goes on is found and followed",
    denied="ask for the permission, or log in again",
    misaddressed="correct `server` or `certificate-authority` of the cluster in the kubeconfig",
)


@dataclass(frozen=True, kw_only=True)
class Patience(api_calls.Patience):
    """How long the launcher waits for what, in seconds.

    Attributes:
        settle: after the first pod failed, for the others to say how they ended.
        log: for the rest of the log of a pod that has ended.
        delete: until nothing of a deleted job is left.
    """

    settle: float = 15.0
    log: float = 60.0
    delete: float = 900.0


def connect(context: str | None = None) -> ApiClient:
    """A client by a context of the kubeconfig where there is one, otherwise by the service account of this pod.

    Raises:
        UserError: there is neither, or the kubeconfig is none.
    """
    configuration = Configuration()
    files = os.environ.get("KUBECONFIG") or KUBECONFIG
    try:
        if any(Path(file).expanduser().exists() for file in files.split(os.pathsep) if file):
            config.load_kube_config(files, context=context, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise UserError(
            f"no Kubernetes cluster is configured ({error}): set KUBECONFIG to a file that names it, or run in a pod."
        ) from error
    except (OSError, YAMLError, ValueError, TypeError, AttributeError) as error:  # of what is no kubeconfig
        said = " ".join(str(error).split())
        raise UserError(
            f"the kubeconfig {files} cannot be read ({type(error).__name__}: {said}): correct it, or set KUBECONFIG to "
            "another."
        ) from error
    return client(configuration)


def client(configuration: Configuration) -> ApiClient:
    """A client that tries each call once: what is tried again, and when, is decided in `api_calls`."""
    configuration.retries = ONCE
    return ApiClient(configuration)


@dataclass(frozen=True, kw_only=True)
class Cluster(Caller):
    """Where jobs of one kind are kept."""

    service: Service = KUBERNETES
    patience: Patience = field(default_factory=Patience)
    api: ApiClient
    namespace: str
    kind: JobKind

    @property
    def core(self) -> CoreV1Api:
        return CoreV1Api(self.api)

    @property
    def custom(self) -> CustomObjectsApi:
        return CustomObjectsApi(self.api)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Group, version, namespace and plural of the jobs, as `CustomObjectsApi` takes them."""
        return self.kind.group, self.kind.version, self.namespace, self.kind.plural

    @property
    def host(self) -> str:
        return str(self.api.configuration.host)

    def job(self, name: str) -> Object | None:
        return self.read_or_none(self.custom.get_namespaced_custom_object, f"reading {name}", *self.place, name)

    def pods(self, name: str) -> list[Object]:
        """Of a job."""
        listed = self.read(
            self.core.list_namespaced_pod,
            f"listing the pods of {name}",
            self.namespace,
            label_selector=self.kind.selector(name),
        )
        found: list[Object] = listed["items"]
        return found

    def events(self, name: str) -> list[Object]:
        """About the object of that name, a pod or a job."""
        listed = self.read(
            self.core.list_namespaced_event,
            f"reading the events of {name}",
            self.namespace,
            field_selector=f"involvedObject.name={name}",
        )
        found: list[Object] = listed["items"]
        return found
