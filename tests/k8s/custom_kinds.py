"""Kinds of other projects that k8s/ uses and ../shared/crds does not define: their fields that we use, strictly.

From the published definitions of Kueue 0.9 (v1beta1), prometheus-operator 0.80 and Argo Events 1.9; an unknown field is
refused as the API server's strict validation would.
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

# Of Argo Events' own pods we demand what the policy demands of ours.
_RESTRICTED = _object(
    ("runAsNonRoot", "runAsUser", "seccompProfile"),
    runAsNonRoot={"const": True},
    runAsUser={"type": "integer", "minimum": 1},
    runAsGroup={"type": "integer", "minimum": 1},
    fsGroup={"type": "integer", "minimum": 1},
    seccompProfile={"const": {"type": "RuntimeDefault"}},
)
_RESOURCES = _object(
    ("cpu", "memory", "ephemeral-storage"), cpu=QUANTITY, memory=QUANTITY, **{"ephemeral-storage": QUANTITY}
)
_CONTAINER = _object(
    ("resources", "securityContext"),
    resources=_object(("requests", "limits"), requests=_RESOURCES, limits=_RESOURCES),
    securityContext=_object(
        ("allowPrivilegeEscalation", "capabilities"),
        allowPrivilegeEscalation={"const": False},
        readOnlyRootFilesystem={"const": True},
        capabilities={"const": {"drop": ["ALL"]}},
    ),
)
_POD = _object(
    ("serviceAccountName", "securityContext", "container", "metadata"),
    serviceAccountName=TEXT,
    securityContext=_RESTRICTED,
    container=_CONTAINER,
    metadata=_object(("labels",), labels=TEXTS, annotations=TEXTS),
)
_SECRET_KEY = _object(("name", "key"), name=TEXT, key=TEXT)
_MINIO = _object(
    ("bucket", "endpoint", "accessKey", "secretKey"),
    bucket=_object(("name",), name=TEXT, key=TEXT),
    endpoint={"type": "string", "pattern": r"^[^/]+$"},  # a host, without http://
    region=TEXT,
    insecure={"type": "boolean"},
    events=_list({"type": "string", "pattern": r"^s3:Object"}),
    filter=_object(prefix=TEXT, suffix=TEXT),
    accessKey=_SECRET_KEY,
    secretKey=_SECRET_KEY,
    metadata=TEXTS,
)
_SQS = _object(
    ("region", "queue"),
    region=TEXT,
    queue=TEXT,
    queueAccountId=TEXT,
    roleARN=TEXT,
    waitTimeSeconds={"type": "integer", "minimum": 0, "maximum": 20},
    jsonBody={"type": "boolean"},
    accessKey=_SECRET_KEY,
    secretKey=_SECRET_KEY,
)
_EVENTS = {"type": "object", "minProperties": 1}
_SOURCE = _object(("dependencyName",), dependencyName=TEXT, dataKey=TEXT, contextKey=TEXT, value=TEXT)
_K8S_TRIGGER = _object(
    ("operation", "source"),
    operation={"enum": ["create", "update", "patch", "delete"]},
    parameters=_list(_object(("src", "dest"), src=_SOURCE, dest=TEXT, operation={"enum": ["append", "prepend"]})),
    source=_object(("resource",), resource={"type": "object", "required": ["apiVersion", "kind", "spec"]}),
)
_TRIGGER = _object(
    ("template",),
    template=_object(("name", "k8s"), name=TEXT, k8s=_K8S_TRIGGER, conditions=TEXT),
    rateLimit=_object(
        ("unit", "requestsPerUnit"), unit={"enum": ["Second", "Minute", "Hour"]}, requestsPerUnit={"type": "integer"}
    ),
    retryStrategy=_object(("steps",), steps={"type": "integer"}, duration=DURATION, factor=TEXT, jitter=TEXT),
)

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
    ("argoproj.io/v1alpha1", "EventBus"): _object(
        ("jetstream",),
        jetstream=_object(
            ("version", "replicas", "securityContext", "containerTemplate"),
            version={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
            replicas={"type": "integer", "minimum": 3},
            streamConfig=TEXT,
            persistence=_object(accessMode=TEXT, volumeSize=QUANTITY, storageClassName=TEXT),
            securityContext=_RESTRICTED,
            containerTemplate=_CONTAINER,
            reloaderContainerTemplate=_CONTAINER,
            metricsContainerTemplate=_CONTAINER,
            metadata=_object(labels=TEXTS, annotations=TEXTS),
        ),
    ),
    ("argoproj.io/v1alpha1", "EventSource"): {
        **_object(
            ("eventBusName", "template"),
            eventBusName=TEXT,
            template=_POD,
            minio={**_EVENTS, "additionalProperties": _MINIO},
            sqs={**_EVENTS, "additionalProperties": _SQS},
        ),
        "oneOf": [{"required": ["minio"]}, {"required": ["sqs"]}],
    },
    ("argoproj.io/v1alpha1", "Sensor"): _object(
        ("eventBusName", "template", "dependencies", "triggers"),
        eventBusName=TEXT,
        template=_POD,
        dependencies=_list(
            _object(("name", "eventSourceName", "eventName"), name=TEXT, eventSourceName=TEXT, eventName=TEXT)
        ),
        triggers=_list(_TRIGGER),
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
