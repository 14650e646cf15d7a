"""A Kubeflow Pipelines on loopback, with a Kubernetes beside it, and compiled pipelines to start there."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from components import provenance
from pipelines.cli import main
from pipelines.cluster import api, run, schedule
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile
from pipelines.shape import MAIN
from tests.components.launch.kubeconfig import write_kubeconfig
from tests.components.launch.kubernetes_api import Kubernetes
from tests.pipelines.cluster.kubeflow_api import Kubeflow

# As short as loopback allows; what is long enough to never be met says so.
QUICK = api.Patience(api=120.0, settle=0.3, claim=120.0, poll=0.02, first=0.01, longest=0.1)


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    with Kubernetes(tmp_path) as made:
        write_kubeconfig(tmp_path / "kubeconfig", made.url)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield made


@pytest.fixture
def kubeflow(kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    for name in (api.TOKEN_PATH, api.UI_ENDPOINT, api.NAMESPACE, "KUBERNETES_SERVICE_HOST", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with Kubeflow(kubernetes) as made:
        monkeypatch.setenv(api.ENDPOINT, made.url)
        yield made


@pytest.fixture
def kfp(kubeflow: Kubeflow) -> api.Kubeflow:
    """The client."""
    return api.connect(patience=QUICK)


def compiled(folder: Path, *settings: str, pipeline: str = MAIN) -> Path:
    """A pipeline as `lingbot compile` writes it for the cluster."""
    return compile_pipeline(load_parameters(settings=settings), load_profile("cluster"), folder, pipeline)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("compiled"), "pretrain.steps=7")


@pytest.fixture
def lingbot(kubeflow: Kubeflow, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line, in a home of its own, with a profile `here.yaml`; what it compiles is `package`."""
    digest = f"registry.example.com/lingbot@sha256:{'a' * 64}"
    profile = {
        "runner": "cluster",
        "storage": {"mode": "object", "url": (tmp_path / "storage").as_uri()},
        "images": dict.fromkeys(("data", "train", "simulation"), digest),
    }
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(profile))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LINGBOT_STORAGE", raising=False)
    monkeypatch.setattr(api, "Patience", lambda: QUICK)
    monkeypatch.setattr(provenance, "package_versions", lambda: {"numpy": "2"})  # reads 300 files a run
    for module in (run, schedule):
        monkeypatch.setattr(module, "compile_pipeline", lambda *given: Path(shutil.copy(package, given[2])))
    return lambda *arguments: main(list(arguments))
