"""Compiled pipelines as they are kept in golden/, and how two of them differ in words.

    PYTHONPATH=. python tests/pipelines/golden_ir.py        writes the files anew, after a change that is wanted

What changes with every edit of a step or of params.yaml, and has tests of its own, is masked: the versions of the code
and the values of parameters.
"""

import copy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from components.images import IMAGES
from pipelines import ir
from pipelines.compile import compile_pipeline
from pipelines.options import PIPELINES
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile

FOLDER = Path(__file__).parent / "golden"
# Every pipeline on one cluster, and the first of them on the other.
CASES = [*((pipeline, "cluster") for pipeline in PIPELINES), (PIPELINES[0], "h100")]
DIGESTS = {role: f"registry.example.com/lingbot/{role}@sha256:{role.encode().hex():0<64}" for role in IMAGES}


def compiled(pipeline: str, profile: str) -> dict[str, Any]:
    """Both documents of a pipeline as it is compiled now, masked."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = load_profile(profile).with_images(DIGESTS)
        path = compile_pipeline(load_parameters(), chosen, Path(folder), pipeline)
        ir.check(path)
        return masked(*ir.load(path))


def masked(pipeline: dict[str, Any], platform: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(pipeline)
    for parameter in spec["root"]["inputDefinitions"]["parameters"].values():
        parameter["defaultValue"] = "<of params.yaml>"
    for dag in [spec["root"], *spec["components"].values()]:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            version = task.get("inputs", {}).get("parameters", {}).get("code_version")
            if version is not None:
                version["runtimeValue"] = {"constant": "<of the step's code>"}
    return {"pipeline": spec, "platform": platform}


def golden(pipeline: str, profile: str) -> Path:
    return FOLDER / f"{pipeline}.{profile}.yaml"


def difference(expected: Any, found: Any) -> list[str]:
    """A line for each value that differs: its path, what it was, what it is. Named elements of lists are matched by
    name, and of a text of many lines only the lines that differ are shown."""
    before, after = dict(_flat(expected)), dict(_flat(found))
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            lines.append(f"- {path}: {before[path]!r}")
        elif path not in before:
            lines.append(f"+ {path}: {after[path]!r}")
        elif before[path] != after[path]:
            lines.append(f"  {path}: {before[path]!r} -> {after[path]!r}")
    return lines


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _flat(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            named = isinstance(child, dict) and child.get("name", child.get("volumeName"))
            yield from _flat(child, f"{path}[{named or index}]")
    elif isinstance(value, str) and "\n" in value:
        for number, line in enumerate(value.splitlines(), 1):
            yield f"{path}:{number}", line
    else:
        yield path, value


def _dump(value: dict[str, Any], path: Path) -> None:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        lines = "\n".join(line.rstrip() for line in value.splitlines()) == value.rstrip("\n")
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value and lines else None)

    Dumper.add_representer(str, text)
    path.write_text(yaml.dump(value, Dumper=Dumper, sort_keys=True, width=120))


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for pipeline, profile in CASES:
        _dump(compiled(pipeline, profile), golden(pipeline, profile))
        print(golden(pipeline, profile))
    return 0


if __name__ == "__main__":
    sys.exit(main())
