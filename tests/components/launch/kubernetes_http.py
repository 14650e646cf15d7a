"""The wire of the stand-in: paths and verbs of the Kubernetes API over HTTP on loopback, and the faults of a wire.

Lists and watches carry resource versions, watches are chunked streams with bookmarks, logs follow a pod, errors are
`Status` objects. A `Fault` (`tests.loopback`) answers with another status, or breaks the connection.
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests import loopback
from tests.components.launch.kubernetes_pods import Log
from tests.components.launch.kubernetes_store import Conflict, Gone, Object, now
from tests.components.launch.kubernetes_wire import REASONS, Wire, status_of
from tests.loopback import Fault, Refused

CORE = {"pods", "events", "resourcequotas", "persistentvolumeclaims", "nodes"}
PATH = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>log))?$"
)
BOOKMARK_SECONDS = 0.2


def chosen(item: Object, selector: str) -> bool:
    """Field selectors `metadata.name=x` and `involvedObject.name=x`."""
    field, _, name = selector.partition("=")
    return not field or item[field.split(".")[0]]["name"] == name


class Handler(loopback.Handler):
    wire: Wire

    def do_GET(self) -> None:
        self._answer("get")

    def do_POST(self) -> None:
        self._answer("create")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        body = json.loads(self.content() or "{}")
        parts = PATH.match(url.path)
        if verb == "get" and parts and not parts["name"]:
            verb = "watch" if query.get("watch", "").lower() == "true" else "list"
        resource = parts["resource"] if parts else url.path
        if parts and parts["sub"]:
            resource += "/log"
        fault = self.wire.fault(f"{verb} {resource}")
        try:
            if fault is not None and fault.after is None and not fault.done:
                raise self._refusal(fault)
            if (verb, resource) in self.wire.denied:
                raise Refused(403, "Forbidden", f'user "robot" cannot {verb} resource "{resource}"')
            answer = self._route(verb, url.path, parts, query, body)
            if fault is not None and fault.done:
                raise self._refusal(fault)
            if isinstance(answer, Iterator):
                self._stream(answer, None if fault is None else fault.after)
            else:
                self.send(200, answer)
        except Refused as refused:
            if refused.status == 0:
                self.sever()
            else:
                self.send(refused.status, status_of(refused), None if fault is None else fault.headers)

    def _refusal(self, fault: Fault) -> Refused:
        return Refused(fault.status, REASONS.get(fault.status, ""), f"stand-in: asked to answer {fault.status}")

    def _route(self, verb: str, path: str, parts: re.Match[str] | None, query: dict[str, str], body: Object) -> Any:
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            return self._review(body)
        discovery = re.fullmatch(r"/apis/([^/]+)/([^/]+)", path)
        if discovery:
            return self._discover(discovery[1], discovery[2])
        if parts is None or not self._known(parts):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        namespace, resource, name = parts["namespace"] or "", parts["resource"], parts["name"]
        if parts["sub"]:
            return self._log(namespace, name, query)
        if verb == "create":
            return self._create(resource, namespace, body, dry="dryRun" in query)
        if verb == "list":
            return self._list(resource, namespace, query)
        if verb == "watch":
            return self._watch(resource, namespace, query)
        found = self.wire.store.get(resource, namespace, name)
        if found is None:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found')
        if verb == "delete":
            self._delete(resource, namespace, name, query.get("propagationPolicy") or body.get("propagationPolicy"))
        return found

    def _known(self, parts: re.Match[str]) -> bool:
        if parts["group"] is None:
            return parts["resource"] in CORE
        return parts["resource"] in self.wire.resources.get((parts["group"], parts["version"]), set())

    def _discover(self, group: str, version: str) -> Object:
        plurals = self.wire.resources.get((group, version))
        if not plurals:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        resources = [{"name": plural, "kind": plural, "namespaced": True, "verbs": []} for plural in sorted(plurals)]
        return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}", "resources": resources}

    def _review(self, body: Object) -> Object:
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        self.wire.reviewed.add(f"{asked['verb']} {resource}")
        return body | {"status": {"allowed": (asked["verb"], resource) not in self.wire.denied}}

    def _create(self, resource: str, namespace: str, body: Object, *, dry: bool) -> Object:
        self.wire.admit(body)
        if dry:
            if self.wire.store.get(resource, namespace, body["metadata"]["name"]) is not None:
                raise Refused(409, "AlreadyExists", f'{resource} "{body["metadata"]["name"]}" already exists')
            return body
        try:
            return self.wire.store.create(resource, namespace, body)
        except Conflict as conflict:
            raise Refused(409, "AlreadyExists", f'{resource} "{conflict}" already exists') from conflict

    def _delete(self, resource: str, namespace: str, name: str, propagation: str | None) -> None:
        if resource in CORE or propagation == "Foreground":
            mark = {"deletionTimestamp": now()}
            self.wire.store.change(resource, namespace, name, lambda found: found["metadata"].update(mark))
        else:
            self.wire.store.remove(resource, namespace, name)

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> Object:
        with self.wire.store.changed:
            items = self.wire.store.select(resource, namespace, query.get("labelSelector", ""))
            version = str(self.wire.store.version)
        items = [item for item in items if chosen(item, query.get("fieldSelector", ""))]
        return {"kind": "List", "metadata": {"resourceVersion": version}, "items": items}

    def _watch(self, resource: str, namespace: str, query: dict[str, str]) -> Iterator[bytes]:
        store, selector = self.wire.store, query.get("labelSelector", "")
        after, seconds = int(query.get("resourceVersion") or 0), float(query.get("timeoutSeconds", 60))
        try:
            for change in store.watch(resource, namespace, selector, after, seconds):
                if change is not None and chosen(change.object, query.get("fieldSelector", "")):
                    yield json.dumps({"type": change.kind, "object": change.object}).encode()
                elif change is None and query.get("allowWatchBookmarks", "").lower() == "true":
                    mark = {"kind": resource, "metadata": {"resourceVersion": str(store.version)}}
                    yield json.dumps({"type": "BOOKMARK", "object": mark}).encode()
        except Gone as gone:
            yield json.dumps({"type": "ERROR", "object": status_of(Refused(410, "Expired", str(gone)))}).encode()

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> Iterator[bytes]:
        found = self.wire.store.get("pods", namespace, name)
        if found is None:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        log = self.wire.kubelet.logs.get(name)  # this pod's, also when another of its name comes
        if log is None:
            raise Refused(400, "BadRequest", f'container in pod "{name}" is waiting to start: ContainerCreating')
        follow, tail = query.get("follow", "").lower() == "true", query.get("tailLines")
        stamped = query.get("timestamps", "").lower() == "true"
        return self._lines(log, follow, None if tail is None else int(tail), stamped)

    def _lines(self, log: Log, follow: bool, tail: int | None, stamped: bool) -> Iterator[bytes]:
        sent = 0 if tail is None else max(0, len(log.lines) - tail)
        while True:
            with self.wire.store.changed:
                if len(log.lines) == sent and follow and not log.ended:
                    self.wire.store.changed.wait(0.2)
                lines, ended = log.lines[sent:], log.ended
            for stamp, text in lines:
                yield (f"{stamp} {text}" if stamped else text).encode()
            sent += len(lines)
            if not follow or (ended and len(log.lines) == sent):
                return
            yield b""

    def _stream(self, lines: Iterator[bytes], after: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wire.streams.add(self.connection)
        sent = 0
        try:
            for line in lines:
                if line:
                    self.wfile.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
                    sent += 1
                if after is not None and sent >= after:
                    return self.sever()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            self.wire.streams.discard(self.connection)


class Server(loopback.Server):
    def __init__(self, wire: Wire) -> None:
        super().__init__(Handler, wire=wire)
        self.wire = wire

    def sever(self) -> int:
        """Breaks every stream that is open, and says how many."""
        streams = list(self.wire.streams)
        for stream in streams:
            with contextlib.suppress(OSError):  # the client has gone already
                stream.shutdown(socket.SHUT_RDWR)
        return len(streams)
