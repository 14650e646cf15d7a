"""A bucket and a Kubeflow on loopback, and a dataset to arrive."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components import provenance
from components.adapters.storage import Storage
from pipelines.cluster import api
from pipelines.profile import load_profile
from pipelines.shape import MAIN
from pipelines.triggers.starting import Trigger
from tests.components.adapters.conftest import _server, s3
from tests.fixtures_lerobot import write_dataset
from tests.pipelines.cluster.conftest import QUICK, kubeflow, kubernetes, package

__all__ = ["_server", "kubeflow", "kubernetes", "package", "s3"]

MakeTrigger = Callable[..., Trigger]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("lerobot") / "cubes", "v2.1", lengths=(3, 4))


@pytest.fixture
def upload(s3: Any, dataset: Path) -> Callable[[str], str]:
    """Puts the dataset at a key; returns its address."""

    def put(key: str) -> str:
        Storage.from_url("s3://artefacts").put_folder(dataset, key)
        return f"s3://artefacts/{key}"

    return put


@pytest.fixture
def make_trigger(
    kubeflow: Any, package: Path, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MakeTrigger]:
    """Triggers whose clients are apart, as those of several processes. The pipeline is compiled once for all."""

    def compiled(parameters: Any, profile: Any, folder: Path, pipeline: str) -> Path:
        return Path(shutil.copy(package, folder / package.name))

    monkeypatch.setattr("pipelines.cluster.run.compile_pipeline", compiled)
    monkeypatch.setattr(provenance, "package_versions", lambda: {"numpy": "2"})  # reads 300 files a run
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))

    def make(**changes: Any) -> Trigger:
        given = {"pipeline": MAIN, "profile": load_profile("cluster"), "stream": io.StringIO(), **changes}
        return Trigger(kfp=api.connect(patience=QUICK), **given)

    yield make
