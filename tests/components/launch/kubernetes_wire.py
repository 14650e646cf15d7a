"""What all requests of the stand-in share: its state, who may do what, and how it says no."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from tests import loopback
from tests.components.launch.kubernetes_pods import Kubelet
from tests.components.launch.kubernetes_store import Object, Store
from tests.loopback import Refused


def status_of(refused: Refused) -> Object:
    """The `Status` object of an answer."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": refused.status,
        "reason": refused.reason,
        "message": refused.message,
    }


REASONS = {
    409: "AlreadyExists",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass
class Wire(loopback.Wire):
    """What the handlers of all requests share; the name of a request is 'VERB resource'."""

    store: Store
    kubelet: Kubelet
    admit: Callable[[Object], None]  # raises Refused
    resources: dict[tuple[str, str], set[str]]  # (group, version) -> plurals that are installed
    denied: set[tuple[str, str]] = field(default_factory=set)  # (verb, resource), such as ("create", "pytorchjobs")
    reviewed: set[str] = field(default_factory=set)  # 'VERB resource' that access reviews asked for
    streams: set[socket.socket] = field(default_factory=set)
