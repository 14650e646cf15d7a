"""The digest of what a parameter names in a bucket follows its bytes."""

from typing import Any

from components.adapters.storage import Storage
from components.sources import source_digest


def test_changed_bytes_of_equal_size_are_another_source(s3: Any) -> None:
    store = Storage.from_url("s3://artefacts/cubes")
    store.write_bytes("meta/info.json", b"one")
    before = source_digest("ingest.dataset", "s3://artefacts/cubes")
    assert source_digest("ingest.dataset", "s3://artefacts/cubes") == before
    store.write_bytes("meta/info.json", b"two")
    assert source_digest("ingest.dataset", "s3://artefacts/cubes") != before
