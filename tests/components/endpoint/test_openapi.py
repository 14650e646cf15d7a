"""schemathesis drives the endpoint by its own OpenAPI description: what is documented is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.endpoint.key_file import add_key
from components.endpoint.keys import KeyRing

# A body that fits the schema need not be accepted: JSON Schema cannot say that base64 has the bytes of its shape.
LEFT_OUT = "positive_data_acceptance"


HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


def drive(start, bundle, folder, *, examples, phases):
    """Runs schemathesis with a key that may do everything; its code and what it printed."""
    keys = folder / "keys.json"
    secret = add_key(keys, "everything", ("infer", "admin"))
    server = start(bundle, keys=KeyRing(keys))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--url", server.url,
        "--checks", "all", "--exclude-checks", LEFT_OUT, "--phases", phases, "--max-examples", str(examples),
        "--generation-database", "none", "--seed", "8", "--no-color", "--request-timeout", "60", "--no-shrink",
        "--header", f"Authorization: Bearer {secret}",
        "--exclude-path", "/v1/admin/drain",  # it would end the server that is driven
    ]  # fmt: skip
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "COLUMNS": "160", "SCHEMATHESIS_HOOKS": HOOKS.stem}
    environment["PYTHONPATH"] = str(HOOKS.parent)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert server.service.metrics.value("faults", transport="http") == 0
    return done.returncode, done.stdout + done.stderr


def test_the_description_holds(start, slow_bundle, tmp_path):
    code, text = drive(start, slow_bundle(), tmp_path, examples=1, phases="examples,coverage")
    assert code == 0, text[-6000:]
    tested = re.search(r"Tested: (\d+)", text)
    assert tested is not None and int(tested.group(1)) >= 16, text


@pytest.mark.soak
def test_the_description_holds_for_many_requests(start, slow_bundle, tmp_path):
    code, text = drive(start, slow_bundle(), tmp_path, examples=200, phases="examples,coverage,fuzzing")
    assert code == 0, text[-6000:]
