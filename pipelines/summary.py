"""The summary of a run, from what its steps said about their artefacts."""

from collections.abc import Mapping
from typing import Any


def summary_lines(run: Mapping[str, Any]) -> list[str]:
    """The lines that end a run: data, training, evidence, version, endpoint, time of each step, report."""
    return []
