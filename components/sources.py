"""Digests of what a parameter names outside of the state folder: a dataset to ingest, a checkpoint of a teacher."""

import hashlib
import importlib
from collections.abc import Mapping
from typing import Any

from components import state
from components.adapters.storage import FolderStorage, Storage
from components.artifacts import digest_of, hash_file, hash_folder
from components.steps import Step
from model.errors import UserError


def source_digests(step: Step, values: Mapping[str, Any]) -> dict[str, str]:
    """Parameter name -> digest, for each parameter of `step.sources` and `step.listings` that is set (not empty).

    Raises:
        UserError: one names nothing that exists.
    """
    digests = {name: source_digest(f"{step.name}.{name}", values[name]) for name in step.sources if values.get(name)}
    for name, module in step.listings.items():
        if values.get(name):
            digests[name] = importlib.import_module(module).digest(f"{step.name}.{name}", values[name])
    return digests


def source_digest(name: str, value: str) -> str:
    """The digest of a file or a folder on disk (over the content), or of what lies at an s3:// address.

    The latter is over names, sizes and the tags that a bucket gives to bytes: nothing is downloaded for it.
    """
    storage = Storage.from_url(value)
    if not isinstance(storage, FolderStorage):
        files = [(file.key, file.size, file.etag) for file in storage.list()]
        if not files:
            raise UserError(
                f"{name} is '{value}': nothing is stored there; give the address of a folder that holds files"
            )
        return hashlib.sha256(state.canonical_json(files)).hexdigest()
    path = storage.root
    if path.is_dir():
        return digest_of(hash_folder(path))
    if path.is_file():
        return hash_file(path).sha256
    raise UserError(
        f"{name} is '{value}': there is no such file or folder; give the path of one that exists or s3://bucket/prefix"
    )
