"""Who reaches whom under an overlay's NetworkPolicies: their semantics, worked out for every pair that there may be.

A pod that no policy selects in a direction is open in it; one that some select is open to what any of them names. A
connection needs its sender's way out and its receiver's way in. Addresses match an ipBlock, pods never do.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.k8s.manifests import Object, of_kind, pods, selects

NAMESPACE = "lingbot"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A pod (with labels and a namespace) or an address; `ports` are those that somebody might try."""

    name: str
    labels: Object = field(default_factory=dict)
    namespace: Object = field(default_factory=dict)
    address: str = ""
    ports: tuple[str, ...] = ()

    @property
    def governed(self) -> bool:
        """Whether the overlay's policies are about it."""
        return self.namespace.get("kubernetes.io/metadata.name") == NAMESPACE


def here(name: str, labels: Object, *ports: str) -> Peer:
    """A pod of the overlay's namespace."""
    return Peer(name=name, labels=labels, namespace={"kubernetes.io/metadata.name": NAMESPACE}, ports=ports)


def elsewhere(name: str, *ports: str, **namespace_labels: str) -> Peer:
    """A pod of a namespace of that name."""
    labels = {key.replace("__", "/"): value for key, value in namespace_labels.items()}
    return Peer(name=name, namespace={"kubernetes.io/metadata.name": name, **labels}, ports=ports)


def templates(objects: list[Object]) -> dict[str, Object]:
    """app.kubernetes.io/name -> labels, of every pod that the overlay brings or has others make."""
    found = [template["metadata"]["labels"] for _, template in pods(objects)]
    found += [item["spec"]["template"]["metadata"]["labels"] for item in of_kind(objects, "EventSource", "Sensor")]
    found += [item["spec"]["jetstream"]["metadata"]["labels"] for item in of_kind(objects, "EventBus")]
    return {labels["app.kubernetes.io/name"]: labels for labels in found}


def allowed(objects: list[Object], peers: list[Peer]) -> set[str]:
    """Every connection that is open, as "who -> whom:port", of all pairs with at least one side in the namespace."""
    policies = [item["spec"] for item in of_kind(objects, "NetworkPolicy")]
    return {
        f"{sender.name} -> {receiver.name}:{port}"
        for sender in peers
        for receiver in peers
        if (sender.governed or receiver.governed) and not sender.address
        for port in receiver.ports
        if _open(policies, "egress", sender, receiver, port) and _open(policies, "ingress", receiver, sender, port)
    }


def _open(policies: list[Object], direction: str, pod: Peer, other: Peer, port: str) -> bool:
    if not pod.governed:
        return True
    selecting = [
        policy for policy in policies if direction in _directions(policy) and selects(policy["podSelector"], pod.labels)
    ]
    rules = [rule for policy in selecting for rule in policy.get(direction) or []]
    side = "to" if direction == "egress" else "from"
    return not selecting or any(
        _names_port(rule, port) and (not rule.get(side) or any(_names(peer, other) for peer in rule[side]))
        for rule in rules
    )


def _directions(policy: Object) -> Iterator[str]:
    """Left out, policyTypes are Ingress, and Egress where there are rules for it."""
    for kind in policy.get("policyTypes") or ["Ingress", *(["Egress"] if policy.get("egress") else [])]:
        yield kind.lower()


def _names_port(rule: Object, port: str) -> bool:
    number, _, protocol = port.partition("/")
    entries: list[Any] = rule.get("ports") or [{}]
    return any(
        entry.get("port", int(number)) == int(number) and entry.get("protocol", "TCP") == (protocol or "TCP")
        for entry in entries
    )


def _names(peer: Object, other: Peer) -> bool:
    if "ipBlock" in peer:
        if not other.address:
            return False
        address = ipaddress.ip_address(other.address)
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(
            address in ipaddress.ip_network(block) for block in peer["ipBlock"].get("except", [])
        )
    if other.address:
        return False
    if "namespaceSelector" not in peer:
        return other.governed and selects(peer["podSelector"], other.labels)
    return selects(peer["namespaceSelector"], other.namespace) and selects(peer.get("podSelector", {}), other.labels)
