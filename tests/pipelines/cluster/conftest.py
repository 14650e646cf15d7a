"""A Kubeflow Pipelines on loopback, and a compiled pipeline to start there."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.cluster import api
from pipelines.cluster.calls import Patience
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile
from tests.pipelines.cluster.kubeflow_api import Kubeflow

# As short as loopback allows; what is long enough to never be met says so.
QUICK = Patience(api=20.0, settle=0.3, claim=30.0, poll=0.02, first=0.01, longest=0.1)


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    for name in (api.TOKEN_PATH, api.UI_ENDPOINT, api.NAMESPACE, "KUBERNETES_SERVICE_HOST", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with Kubeflow() as made:
        monkeypatch.setenv(api.ENDPOINT, made.url)
        yield made


@pytest.fixture
def kfp(kubeflow: Kubeflow) -> api.Kubeflow:
    """The client."""
    return api.connect(patience=QUICK)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as `lingbot compile` writes it for the cluster."""
    folder = tmp_path_factory.mktemp("compiled")
    # On a thread of its own: kfp reads the whole stack for every option of a task, and pytest's is deep (4 s, not 1).
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compile_pipeline, load_parameters(), load_profile("cluster"), folder).result()
