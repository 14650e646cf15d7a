"""Kinds of other projects that k8s/ uses and ../shared/crds does not define: their fields that we use, strictly.

From the published definitions of Kueue 0.9 (v1beta1) and prometheus-operator 0.80; an unknown field is refused as the
API server's strict validation would.
"""

from typing import Any

import jsonschema

from tests.k8s.manifests import Object


def _object(required: tuple[str, ...] = (), **properties: Any) -> Object:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Object, **more: Any) -> Object:
    return {"type": "array", "items": items, "minItems": 1, **more}


TEXT: Object = {"type": "string", "minLength": 1}
TEXTS: Object = {"type": "object", "additionalProperties": TEXT}
QUANTITY: Object = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?([KMGTPE]i?|m)?$"}]}
DURATION: Object = {"type": "string", "pattern": r"^(\d+(ms|[smhdwy]))+$"}
SELECTOR = _object(matchLabels=TEXTS, matchExpressions={"type": "array"})
TOLERATION = _object(
    key=TEXT,
    operator={"enum": ["Exists", "Equal"]},
    value=TEXT,
    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
)
_QUOTA = _object(("name", "nominalQuota"), name=TEXT, nominalQuota=QUANTITY, borrowingLimit=QUANTITY)
_FLAVOR = _object(("name", "resources"), name=TEXT, resources=_list(_QUOTA, maxItems=16))
_GROUP = _object(
    ("coveredResources", "flavors"), coveredResources=_list(TEXT, maxItems=16), flavors=_list(_FLAVOR, maxItems=16)
)
_PREEMPTION = _object(
    reclaimWithinCohort={"enum": ["Never", "LowerPriority", "Any"]},
    withinClusterQueue={"enum": ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]},
)
_ENDPOINT = _object(port=TEXT, interval=DURATION, scrapeTimeout=DURATION, path=TEXT, scheme={"enum": ["http", "https"]})
_RULE = {
    **_object(("expr",), alert=TEXT, record=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION}),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}

SPECS: dict[tuple[str, str], Object] = {
    ("kueue.x-k8s.io/v1beta1", "ResourceFlavor"): _object(
        nodeLabels={**TEXTS, "maxProperties": 8},
        nodeTaints={"type": "array"},
        tolerations=_list(TOLERATION, maxItems=8),
    ),
    ("kueue.x-k8s.io/v1beta1", "ClusterQueue"): _object(
        resourceGroups=_list(_GROUP, maxItems=16),
        namespaceSelector=SELECTOR,
        queueingStrategy={"enum": ["StrictFIFO", "BestEffortFIFO"]},
        cohort=TEXT,
        preemption=_PREEMPTION,
    ),
    ("kueue.x-k8s.io/v1beta1", "LocalQueue"): _object(
        clusterQueue=TEXT, stopPolicy={"enum": ["None", "Hold", "HoldAndDrain"]}
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _object(
        ("selector", "endpoints"),
        selector=SELECTOR,
        endpoints=_list(_ENDPOINT),
        namespaceSelector={"type": "object"},
        jobLabel=TEXT,
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object(
        groups=_list(_object(("name",), name=TEXT, interval=DURATION, rules=_list(_RULE)))
    ),
}


def complaints(item: Object) -> list[str]:
    """What of an object disagrees with its kind."""
    schema = _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=TEXT,
        kind=TEXT,
        metadata={"type": "object", "required": ["name"]},
        spec=SPECS[item["apiVersion"], item["kind"]],
    )
    errors = jsonschema.Draft7Validator(schema).iter_errors(item)
    return sorted(f"{error.json_path}: {error.message}" for error in errors)
