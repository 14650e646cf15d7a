"""A record of a run on this machine that has all that its readers look for; tests change what they are about."""

from typing import Any


def run_record(run_id: str, **more: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "id": run_id, "pipeline": "demonstrations_to_policy", "preset": "demo", "status": "done",
        "started": 0.0, "seconds": 1.0, "profile": {}, "provenance": {"code": {}, "command": []}, "steps": [],
        "error": None, **more,
    }  # fmt: skip
