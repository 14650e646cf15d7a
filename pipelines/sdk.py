"""kfp as far as DAGs are built with it: without its client, and without the one of Kubernetes.

Runs are submitted by `pipelines.cluster`, through kfp_server_api. What `import kfp` brings for its own client, and
`kfp.kubernetes` for the check of a node affinity, takes three quarters of their import: 0.7 of 0.9 CPU s, of a
compilation that may take three.
"""

import importlib
import os
import sys
from types import ModuleType

# kfp's own switch for where it runs a step: `import kfp` then leaves its client out.
_SWITCH = "_KFP_RUNTIME"


def import_kfp() -> None:
    """Imports kfp and kfp.kubernetes; does nothing where that was done. To be called before anything imports kfp."""
    if "kfp" not in sys.modules:
        before = os.environ.get(_SWITCH)
        os.environ[_SWITCH] = "true"
        try:
            importlib.import_module("kfp")
        finally:
            os.environ.pop(_SWITCH)
            if before is not None:
                os.environ[_SWITCH] = before
    if "kubernetes" in sys.modules or "kfp.kubernetes" in sys.modules:
        return
    # kfp.kubernetes.node_affinity names the client at its top, and imports it again where it uses it.
    stand_in = ModuleType("kubernetes")
    stand_in.client = ModuleType("kubernetes.client")  # type: ignore[attr-defined]
    sys.modules["kubernetes"] = stand_in
    try:
        importlib.import_module("kfp.kubernetes")
    finally:
        del sys.modules["kubernetes"]
