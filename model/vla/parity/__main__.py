"""Compares every number of a parity fixture with this policy: one line each, exit 1 unless all of them agree."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from model.errors import UserError
from model.vla.parity.comparisons import ACTIVATIONS, EXACT, Ours, find, split_variant
from model.vla.parity.configuration import Variant
from model.vla.parity.fixture import EULER_SCHEDULE, PREPROCESS, Fixture
from model.vla.parity.run import Run
from model.vla.parity.standalone import clocks, preprocess

Verdict = Literal["ok", "MISS", "UNKNOWN", "note"]


@dataclass(frozen=True)
class Line:
    """One line of the report. A `note` says something and is no comparison."""

    verdict: Verdict
    file: str
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<7}  {self.file}  {self.key}  {self.text}"


def compare(folder: Path) -> Iterator[Line]:
    """The report on a fixture folder, line by line. UserError where the folder cannot be compared at all."""
    fixture = Fixture(folder)
    for name in fixture.unknown_files():
        yield Line("UNKNOWN", name, "-", "nothing here reads this file")
    first: Run | None = None
    for inputs, outputs in fixture.pairs():
        batch, expected = fixture.batch(inputs), fixture.read(outputs)
        runs: dict[Variant, Run] = {}
        if not expected:
            yield Line("MISS", outputs, "-", "the file holds nothing to compare")
        for name, released in expected.items():
            variant, key = split_variant(name)
            comparison = find(key)
            if comparison is None:
                yield Line("UNKNOWN", outputs, name, "no comparison knows this key")
                continue
            if variant not in runs:
                runs[variant] = Run.of(fixture, batch, variant, adamw_steps(expected, variant))
            run = runs[variant]
            ours = comparison.ours(run, key)
            if ours is None:
                yield Line("UNKNOWN", outputs, name, "this policy has no such output")
            else:
                yield difference(outputs, name, ours, released, comparison.tolerance)
        first = first or Run.of(fixture, batch, "nodepth", 0)
    if fixture.has(PREPROCESS):
        yield from compare_preprocessing(fixture)
    if fixture.has(EULER_SCHEDULE) and first:
        yield from compare_clock(fixture, first)


def adamw_steps(expected: Mapping[str, Tensor], variant: Variant) -> int:
    """The length of the variant's AdamW run."""
    runs = {name: tensor.numel() for name, tensor in expected.items() if ".adamw." in f".{name}"}
    return max((length for name, length in runs.items() if split_variant(name)[0] == variant), default=0)


def compare_preprocessing(fixture: Fixture) -> Iterator[Line]:
    """Images to patch vectors, and the normaliser."""
    tensors = fixture.read(PREPROCESS)
    ours = preprocess(fixture.config, tensors)
    for name, released in tensors.items():
        if name in ours.outputs:
            tolerance = EXACT if released.dtype == torch.bool else ACTIVATIONS
            yield difference(PREPROCESS, name, Ours(ours.outputs[name]), released, tolerance)
        elif name not in ours.inputs:
            yield Line("UNKNOWN", PREPROCESS, name, "no comparison knows this key")


def compare_clock(fixture: Fixture, run: Run) -> Iterator[Line]:
    """Steps and times of the Euler schedule. Released bf16 clocks drift: of those only the count can be compared."""
    for clock in clocks(fixture.read_json(EULER_SCHEDULE)):
        if isinstance(clock, str):
            yield Line("UNKNOWN", EULER_SCHEDULE, clock, "no comparison knows this key")
            continue
        ours = clock.ours(run)
        for name, released in clock.released.items():
            key, expected = f"{clock.name}.{name}", torch.tensor(float(released))
            if name not in ours:
                yield Line("UNKNOWN", EULER_SCHEDULE, key, "no comparison knows this key")
            elif clock.dtype == "float32":
                tolerance = EXACT if name == "steps" else ACTIVATIONS
                yield difference(EULER_SCHEDULE, key, Ours(ours[name]), expected, tolerance)
            elif name == "steps" and released == clock.asked:
                yield difference(EULER_SCHEDULE, key, Ours(ours[name]), expected, EXACT)
            elif name == "steps":
                text = f"released fault: {clock.asked} steps asked, {released} executed; ours {int(ours[name])}"
                yield Line("note" if int(ours[name]) == clock.asked else "MISS", EULER_SCHEDULE, key, text)
            else:
                text = f"the released clock accumulates in {clock.dtype}: {released:.6f}; ours {float(ours[name]):.6f}"
                yield Line("note", EULER_SCHEDULE, key, text)


def difference(file: str, key: str, ours: Ours, released: Tensor, tolerance: float) -> Line:
    """The largest difference over the rows that count. NaN is a miss, and so is a comparison of nothing."""
    if ours.value.shape != released.shape:
        return Line("MISS", file, key, f"shape {list(ours.value.shape)}, released {list(released.shape)}")
    mine, theirs = (tensor if ours.rows is None else tensor[ours.rows] for tensor in (ours.value, released))
    if not mine.numel():
        return Line("MISS", file, key, "no value counts: nothing was compared")
    if tolerance == EXACT:
        different = int((mine != theirs).sum())
        return Line("MISS" if different else "ok", file, key, f"{different} of {mine.numel()} differ (exact)")
    largest = float((mine.double() - theirs.double()).abs().max())
    verdict: Verdict = "ok" if largest <= tolerance else "MISS"
    return Line(verdict, file, key, f"largest difference {largest:.1e} (tolerance {tolerance:.0e})")


def main(arguments: list[str] | None = None) -> int:
    """Prints the report; 0 if something was compared and everything agrees, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m model.vla.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="a fixture: config.json, weights, inputs and outputs")
    count = {"ok": 0, "MISS": 0, "UNKNOWN": 0, "note": 0}
    try:
        for line in compare(parser.parse_args(arguments).folder):
            print(line, flush=True)
            count[line.verdict] += 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    compared = count["ok"] + count["MISS"]
    print(f"{compared} compared: {count['ok']} agree, {count['MISS']} miss; {count['UNKNOWN']} unknown")
    if not compared:
        print("error: nothing was compared: the fixture holds no known outputs.", file=sys.stderr)
    return int(bool(count["MISS"] or count["UNKNOWN"] or not compared))


if __name__ == "__main__":
    sys.exit(main())
