"""Which cluster a launcher talks to: the kubeconfig's, or the one that this pod is in."""

from pathlib import Path

import kubernetes.config.incluster_config
import pytest

from components.launch.cluster import connect
from model.errors import UserError
from tests.components.launch.kubeconfig import write_kubeconfig


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a kubeconfig, on no cluster."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("place", ["~/.kube/config", "elsewhere"])
def test_the_kubeconfig_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    if place == "elsewhere":
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{tmp_path / place}")
    path = tmp_path / place.removeprefix("~/")
    path.parent.mkdir(exist_ok=True)
    write_kubeconfig(path, "http://127.0.0.1:1")
    assert connect().configuration.host == "http://127.0.0.1:1"


def test_a_pod_has_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TOKEN", "secret"), ("CERT", "certificate")):
        (tmp_path / name).write_text(value)
        monkeypatch.setattr(kubernetes.config.incluster_config, f"SERVICE_{name}_FILENAME", str(tmp_path / name))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = connect().configuration
    assert (found.host, found.api_key["authorization"]) == ("https://10.0.0.1:443", "bearer secret")


def test_neither_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no Kubernetes cluster is configured \(.*\): set KUBECONFIG"):
        connect()


def test_an_unknown_context_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(UserError, match="nowhere"):
        connect("nowhere")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"clusters: [", "ParserError"),
        (b"\xff\xfe\x00", "UnicodeDecodeError|ReaderError"),
        (b"- one\n- two\n", "TypeError|AttributeError"),
        (b"clusters: 3\n", "TypeError"),
    ],
)
def test_what_is_no_kubeconfig_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    (tmp_path / "config").write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(UserError, match=rf"the kubeconfig .*config cannot be read \((?:{said}): .*set KUBECONFIG to"):
        connect()


def test_a_certificate_that_is_none_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kubeconfig(tmp_path / "config", "https://127.0.0.1:1")
    text = (tmp_path / "config").read_text()
    (tmp_path / "config").write_text(text.replace("server:", "certificate-authority-data: a\n    server:"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(UserError, match="the kubeconfig .* cannot be read .Error: "):
        connect()
