"""Where records of provenance lie: with the run, and beside each bundle that a run registered.

    runs/<id>/provenance.json                              written when the run is triggered, before its first step
    bundles/<digest>.provenance/<sha256 of itself>.json    beside the bundle, by the run that registered it

Both also in LINGBOT_STORAGE when that is set, so that a step in a pod, and a colleague, find them. A record of a tree
with changes holds these changes as `git apply` takes them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components import kept, records, state
from components.adapters.versioning import Git
from components.liveness import current_run
from components.provenance import CODE, SCHEMA_VERSION, code_record, code_state, image_here, provenance
from model.errors import UserError

if TYPE_CHECKING:
    from components.adapters.storage import Storage

FILE = "provenance.json"


def write_for_run(run_id: str, record: Mapping[str, Any]) -> None:
    """Keeps the record of a run that begins where its steps find it, with the changes of a dirty tree."""
    content = _to_bytes({**record, "run": run_id, "diff": _changes(record)})
    state.write_atomically(state.run_folder(run_id) / FILE, content)
    storage = records.open_storage()
    if storage is not None:
        storage.write_bytes(_run_key(run_id), content)


def publish_for_run(run_id: str, record: Mapping[str, Any], storage: "Storage") -> None:
    """Keeps the record of a run of a cluster, under Kubeflow's id, in the storage that its steps have."""
    storage.write_bytes(_run_key(run_id), _to_bytes({**record, "run": run_id, "diff": _changes(record)}))


def read_for_run(run_id: str) -> dict[str, Any] | None:
    """The record of a run; None when it was triggered elsewhere and keeps nothing here."""
    path, storage = state.run_folder(run_id) / FILE, records.open_storage()
    if path.exists():
        return _from_bytes(path.read_bytes(), str(path))
    if storage is not None and storage.exists(_run_key(run_id)):
        return _from_bytes(storage.read_bytes(_run_key(run_id)), storage.locate(_run_key(run_id)))
    return None


def of_this_process(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the run that started this process; outside of one, that of this moment with these parameters.

    A run that was triggered from a checkout executes in a pod what the pod's image holds: there the code and the image
    are those of the pod.
    """
    run_id = current_run()
    found = read_for_run(run_id) if run_id else None
    if found is not None:
        found["images"] |= image_here()
        if not Git(state.checkout()).is_checkout and (code := code_state()).commit:
            found |= {"code": code_record(code), "diff": None}
        return found
    record = provenance(parameters)
    return {**record, "run": run_id, "diff": _changes(record)}


def keep_beside_bundle(bundle_digest: str, record: Mapping[str, Any]) -> str:
    """Keeps a record beside a registered bundle; returns the sha256 that names it."""
    content = _to_bytes(record)
    digest = hashlib.sha256(content).hexdigest()
    kept.keep(_bundle_key(bundle_digest, digest), content)
    return digest


def read_beside_bundle(bundle_digest: str, digest: str) -> dict[str, Any]:
    """A record that `keep_beside_bundle` kept, checked.

    Raises:
        UserError: it is gone, or was changed.
    """
    key = _bundle_key(bundle_digest, digest)
    path, content = state.home() / key, kept.find(key)
    if content is None:
        raise UserError(f"the provenance of bundle {bundle_digest[:12]} is gone: {path} does not exist")
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path} was changed after it was written: what the bundle was made from is not known any more")
    return _from_bytes(content, str(path))


def _changes(record: Mapping[str, Any]) -> str | None:
    return Git(state.checkout()).diff(new_in=CODE) if record["code"]["dirty"] is not None else None


def _to_bytes(record: Mapping[str, Any]) -> bytes:
    # In ASCII: a diff of a file that is no UTF-8 keeps its bytes as surrogates, which only an escape can carry.
    return (json.dumps(record, indent=1) + "\n").encode()


def _from_bytes(content: bytes, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(content)
    if record["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"{name} has schema version {record['schema_version']}, this version reads up to {SCHEMA_VERSION}: "
            "use the newer version that wrote it"
        )
    record.setdefault("images", {})  # schema version 1 had none
    return record


def _run_key(run_id: str) -> str:
    return f"runs/{run_id}/{FILE}"


def _bundle_key(bundle_digest: str, digest: str) -> str:
    return f"bundles/{bundle_digest}.provenance/{digest}.json"
