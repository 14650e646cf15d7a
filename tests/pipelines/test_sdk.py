"""kfp without its clients is kfp: what was left out is there for whoever asks for it."""

import json
import os
import subprocess
import sys

import pytest

from components import state

PROGRAM = """
import json, os, sys
{before}
from pipelines.sdk import import_kfp
switch = os.environ.get("_KFP_RUNTIME")
import_kfp()
import_kfp()
assert os.environ.get("_KFP_RUNTIME") == switch
left_out = [name for name in ("kfp.client", "kubernetes") if name not in sys.modules]
from kfp import kubernetes, dsl, compiler, components
from kfp.kubernetes.node_affinity import validate_node_affinity
validate_node_affinity({{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": []}}}})
try:
    validate_node_affinity({{"unheard": 1}})
    refused = False
except ValueError:
    refused = True
from kubernetes.client import V1Pod
from kfp.client import Client
print(json.dumps({{"left_out": left_out, "refused": refused, "pod": V1Pod().to_dict()["kind"], "client": str(Client)}}))
"""


@pytest.mark.parametrize(
    ("before", "left_out"),
    [("", ["kfp.client", "kubernetes"]), ("import kubernetes", ["kfp.client"])],
)
def test_clients_are_left_out_until_they_are_asked_for(before: str, left_out: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        cwd=state.checkout(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    told = json.loads(child.stdout)
    assert told == {"left_out": left_out, "refused": True, "pod": None, "client": "<class 'kfp.client.client.Client'>"}
