"""The connection to Kubeflow Pipelines: where it is, who we are there, and the calls that this project makes."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp_server_api import (
    ApiClient,
    Configuration,
    ExperimentServiceApi,
    HealthzServiceApi,
    PipelineServiceApi,
    PipelineUploadServiceApi,
    RecurringRunServiceApi,
    RunServiceApi,
)
from kfp_server_api.exceptions import ApiException

from components.adapters import api_calls
from components.adapters.api_calls import ONCE, Caller, Object, Service, brief
from model.errors import UserError

ENDPOINT = "KFP_ENDPOINT"
UI_ENDPOINT = "KF_PIPELINES_UI_ENDPOINT"  # this one and the next are named by kfp
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"
NAMESPACE = "LINGBOT_NAMESPACE"
EXPERIMENT = "lingbot"
_INSIDE = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # where Kubeflow projects it into a pod
_PAGE = 100
KUBEFLOW = Service(
    name="Kubeflow Pipelines",
    error=ApiException,
    away="look at its pod ml-pipeline, and give the command again; what was submitted is found and goes on",
    denied=f"log in again, set {TOKEN_PATH} to a file with a token, or ask for the permission",
    misaddressed=f"correct {ENDPOINT} (http:// where it has no TLS), or set SSL_CERT_FILE to its authority's "
    "certificate",
)


@dataclass(frozen=True, kw_only=True)
class Patience(api_calls.Patience):
    """How long is waited for what, in seconds.

    Attributes:
        settle: after a failed call that may have been carried out, for what it made to be seen. A server that carries
            it out later than that makes a second one, which `submission.keep_first` ends.
        claim: for a run of somebody who claimed its key, before that one counts as dead.
        poll: between two looks at a run that goes on.
    """

    settle: float = 20.0
    claim: float = 180.0
    poll: float = 5.0


def namespace() -> str:
    """Where the pods of runs are."""
    return os.environ.get(NAMESPACE) or "lingbot"


@dataclass(frozen=True, kw_only=True)
class Kubeflow(Caller):
    """Kubeflow Pipelines at one address.

    Attributes:
        client: of the generated API; it tries each call once.
        links: the address that a browser opens.
        experiment: the name of the experiment that our runs are in.
        service_account: that runs get; empty: Kubeflow's default.
    """

    service: Service = KUBEFLOW
    patience: Patience = field(default_factory=Patience)
    client: ApiClient
    links: str
    experiment: str = EXPERIMENT
    service_account: str = ""
    _users: list[bool] = field(default_factory=list, repr=False)  # whether it has several, once that is known

    @property
    def runs(self) -> RunServiceApi:
        return RunServiceApi(self.client)

    @property
    def recurring(self) -> RecurringRunServiceApi:
        return RecurringRunServiceApi(self.client)

    @property
    def experiments(self) -> ExperimentServiceApi:
        return ExperimentServiceApi(self.client)

    @property
    def pipelines(self) -> PipelineServiceApi:
        return PipelineServiceApi(self.client)

    @property
    def uploads(self) -> PipelineUploadServiceApi:
        return PipelineUploadServiceApi(self.client)

    @property
    def host(self) -> str:
        return str(self.client.configuration.host)

    @property
    def user_namespace(self) -> dict[str, str]:
        """The option `namespace` of calls to a Kubeflow of several users; none for one of one user."""
        if not self._users:  # no lock: two threads that ask at once hear the same
            call = HealthzServiceApi(self.client).healthz_service_get_healthz
            health = self.read_or_none(call, "asking for its health")
            if health is None:
                raise UserError(f"{self.host} has no API of Kubeflow Pipelines (404): correct {ENDPOINT}")
            self._users.append(bool(health.get("multi_user")))
        return {"namespace": namespace()} if self._users[0] else {}

    def pages(
        self, call: Callable[..., Any], what: str, items: str, *arguments: Any, **options: Any
    ) -> Iterator[Object]:
        """The items of all pages of a list."""
        token = ""
        while True:
            page = self.read(call, what, *arguments, page_size=_PAGE, page_token=token, **options)
            yield from page.get(items) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def run(self, run_id: str) -> Object:
        """A run as it is now.

        Raises:
            UserError: there is none.
        """
        found = self.read_or_none(self.runs.run_service_get_run, f"reading run {run_id}", run_id)
        if found is None:
            raise UserError(
                f"{self.host} has no run {run_id}: `lingbot runs list --profile cluster` names those it has"
            )
        return found

    def link(self, run_id: str) -> str:
        return f"{self.links}/#/runs/details/{run_id}"

    def recurring_link(self, recurring_id: str) -> str:
        return f"{self.links}/#/recurringrun/details/{recurring_id}"


def connect(*, experiment: str = EXPERIMENT, service_account: str = "", patience: Patience | None = None) -> Kubeflow:
    """The Kubeflow Pipelines that the environment names.

    `KFP_ENDPOINT` is its address; without it, that of the cluster whose pod this is. A token is read, again for each
    call, from the file KF_PIPELINES_SA_TOKEN_PATH, or from where Kubeflow projects it into pods. SSL_CERT_FILE names a
    certificate authority of one's own.

    Raises:
        UserError: no address is known.
    """
    host = os.environ.get(ENDPOINT, "").strip() or (_INSIDE if "KUBERNETES_SERVICE_HOST" in os.environ else "")
    if not host.startswith(("http://", "https://")):
        raise UserError(
            f"{ENDPOINT} is '{host}': set it to the http address of Kubeflow Pipelines; from outside of the cluster "
            f"`kubectl -n kubeflow port-forward svc/ml-pipeline 8888`, and {ENDPOINT}=http://localhost:8888"
        )
    configuration = Configuration(host=host.rstrip("/"))
    configuration.retries = ONCE
    configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE") or None
    given = os.environ.get(TOKEN_PATH, "")
    if given or Path(_TOKEN).exists():
        _identify(configuration, Path(given or _TOKEN))
    links = os.environ.get(UI_ENDPOINT) or configuration.host
    return Kubeflow(
        client=ApiClient(configuration),
        links=links.rstrip("/"),
        experiment=experiment,
        service_account=service_account,
        patience=patience or Patience(),
    )


def _identify(configuration: Configuration, path: Path) -> None:
    def refresh(given: Configuration) -> None:
        try:
            given.api_key["authorization"] = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(f"the token of Kubeflow Pipelines in {path} cannot be read ({error.strerror})") from error

    configuration.api_key_prefix["authorization"] = "Bearer"
    configuration.refresh_api_key_hook = refresh
    refresh(configuration)


def explain(error: ApiException, what: str) -> UserError:
    """An answer of the API that nothing but another request changes."""
    return UserError(f"{what}: Kubeflow Pipelines does not take it ({brief(error)}): change what the message names")
