"""Steps for tests of the harness: a source, two readers of it, and a reader of both."""

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.steps import Step
from model.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Parameters:
    amount: int = 3
    label: str = "x"
    files: tuple[str, ...] = ("a.txt", "folder/b.txt")


class SmallStep:
    """A step module whose work is a function; counts how often it ran."""

    def __init__(self, name: str, work: Callable[..., None] | None = None) -> None:
        self.NAME = name
        self.Parameters = Parameters
        self.work = work or write_files
        self.ran = 0

    def run(
        self, inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress
    ) -> dict[str, Any]:
        self.ran += 1
        self.work(inputs, output, parameters, progress)
        return {"amount": parameters.amount, "read": sorted(inputs)}


def write_files(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> None:
    read = "".join((folder / "a.txt").read_text() for _, folder in sorted(inputs.items()))
    for name in parameters.files:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text(f"{parameters.label} {parameters.amount} {read}")


def make_step(name: str, work: Callable[..., None] | None = None, **inputs: str) -> tuple[Step, SmallStep]:
    """A step whose module is a SmallStep, importable under a name of its own."""
    module = SmallStep(name, work)
    module_name = f"small_step_{name}"
    sys.modules[module_name] = module  # type: ignore[assignment]
    makers = {key: (maker,) for key, maker in inputs.items()}
    return Step(
        name=name, module=module_name, inputs=types.MappingProxyType(makers), artifact=name, image="data"
    ), module
