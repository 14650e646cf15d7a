"""What `lingbot doctor` asks, answered on loopback: Kubernetes, Kubeflow Pipelines and MLflow of one cluster."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipelines.doctor_cluster import _RESOURCES as RESOURCES

SECRET = "AKIA-the-value-of-the-key"


def node(name: str, gpus: int) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"} if gpus else {}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}}}


class Cluster:
    """Everything is there; `gone` and `refused` hold paths that answer 404 and 403, `denied` rights that one lacks. A
    context."""

    def __init__(self) -> None:
        claim = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
        classes = [
            {"metadata": {"name": "fast"}, "provisioner": "ebs.csi.aws.com"},
            {"metadata": {"name": "shared"}, "provisioner": "nfs.csi.k8s.io"},
        ]
        self.objects: dict[str, Any] = {
            "/version": {"gitVersion": "v1.32.4"},
            "/api/v1/nodes": {"items": [node("cpu-1", 0), node("h100-1", 8)]},
            "/api/v1/namespaces/lingbot": {},
            "/api/v1/namespaces/lingbot/serviceaccounts/lingbot-pipeline": {"metadata": {}},
            "/api/v1/namespaces/lingbot/secrets/lingbot-s3": {"data": {"access-key": SECRET, "secret-key": SECRET}},
            "/api/v1/namespaces/lingbot/persistentvolumeclaims/lingbot-shared": claim,
            "/apis/storage.k8s.io/v1/storageclasses": {"items": classes},
            "/apis/v2beta1/healthz": {"multi_user": True, "tag_name": "2.14.0"},
        }
        for group, version, plural, *_ in RESOURCES:
            listed = self.objects.setdefault(f"/apis/{group}/{version}", {"resources": []})["resources"]
            listed += [{"name": plural}] if plural else []
        self.gone: set[str] = set()
        self.refused: set[str] = set()
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "Cluster":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((verb, path))
        if path in self.refused:
            return 403, {"message": f"{path} is forbidden to you"}
        if path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            return 201, {"status": {"allowed": f"{asked['verb']} {asked['resource']}" not in self.denied}}
        if path in self.gone or path not in self.objects:
            return 404, {"message": "not found"}
        return 200, self.objects[path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply("GET", None)

            def do_POST(self) -> None:
                self._reply("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, verb: str, body: Any) -> None:
                status, answer = cluster.answer(verb, self.path, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Tests are quiet."""

        return Handler
