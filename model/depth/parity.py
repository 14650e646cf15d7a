"""Compares our LingBot-Depth with numbers that the released code produced.

    python -m model.depth.parity DIR [--num-heads N]

DIR is a fixture folder (see `parity_fixture`), or the folder that holds several beside their inputs. Prints one line an
output with its largest difference and tolerance. Exit code 1 when an output misses, is not known, or none was compared.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from model.depth.encoder import RGBDEncoder, Trace
from model.depth.matrices import at_precision
from model.depth.network import LingBotDepth
from model.depth.parity_fixture import Case, Fixture, read_fixtures
from model.errors import UserError

RTOL, ATOL = 1e-4, 1e-5
BF16_RELATIVE = 0.01  # relative L2: the reference is bf16 autocast on a CPU
BF16_SUFFIX = "_cpu_bf16_autocast"
DECIDED = ATOL + RTOL * 0.5  # a probability nearer to 0.5 may fall on either side of the mask's threshold
OK, MISS, UNKNOWN = "ok", "MISS", "UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Outcome of one output."""

    verdict: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.name:<60} {self.detail}"


class Run:
    """Our outputs of one case in one precision, computed when first asked for."""

    def __init__(self, encoder: RGBDEncoder, network: LingBotDepth | None, case: Case) -> None:
        self.encoder, self.network, self.case = encoder, network, case
        height, width = case.image.shape[-2:]
        self.grid = encoder.token_grid(height, width, case.num_tokens, case.resolution_level)

    def value(self, name: str) -> Tensor | None:
        """The tensor that a fixture calls `name`; None when there is no such output."""
        if name in ("features", "cls_token"):
            return self._features[name == "cls_token"]
        if name in ("image14", "depth14"):
            return self._trace.image if name == "image14" else self._trace.depth
        if match := re.fullmatch(r"seq\.(\d+)", name):
            return self._item(self._trace.sequence_BLD, int(match[1]))
        if match := re.fullmatch(r"layer(\d+)\.(?:cls|tokens\.(\d+))", name):
            layer = int(match[1])
            if layer >= len(self._trace.layers_BLD):
                return None
            layer_BLD = self._trace.layers_BLD[layer]
            if match[2] is None:
                return layer_BLD[:, 0]
            tokens = self._item(layer_BLD, int(match[2]))
            return None if tokens is None else tokens[1 + self.encoder.config.size.registers :]
        if self.network is None:
            return None
        if name in ("depth_reg", "mask_prob"):
            return self._maps[name == "mask_prob"]
        if name.startswith("infer."):
            return self._inferred.get(name.removeprefix("infer."))
        return None

    def undecided(self) -> Tensor | None:
        """Bool [B, H, W] (or [H, W]): pixels whose mask two correct computations may set differently."""
        if self.network is None or self._maps[1] is None:
            return None
        near = (self._maps[1] - 0.5).abs() <= DECIDED
        return near[0] if self.case.image.ndim == 3 else near

    @cached_property
    def _features(self) -> tuple[Tensor, Tensor]:
        case = self.case
        return self.encoder.infer_feat(
            case.image,
            case.depth,
            num_tokens=case.num_tokens,
            resolution_level=case.resolution_level,
            enable_depth_mask=case.enable_depth_mask,
            empty_views=True,
        )

    @cached_property
    def _trace(self) -> Trace:
        case = self.case
        return self.encoder.trace(
            case.image, case.depth, grid=self.grid, enable_depth_mask=case.enable_depth_mask, all_tokens=True
        )

    @cached_property
    def _maps(self) -> tuple[Tensor, Tensor | None]:
        assert self.network is not None
        case = self.case
        image, depth = (case.image[None], case.depth[None]) if case.image.ndim == 3 else (case.image, case.depth)
        return self.network(image, depth, grid=self.grid, enable_depth_mask=case.enable_depth_mask)

    @cached_property
    def _inferred(self) -> dict[str, Tensor]:
        assert self.network is not None
        case = self.case
        return self.network.infer(
            case.image,
            case.depth,
            num_tokens=case.num_tokens,
            resolution_level=case.resolution_level,
            intrinsics=case.intrinsics,
            enable_depth_mask=case.enable_depth_mask,
            empty_views=True,
        )

    def _item(self, x_BLD: Tensor, item: int) -> Tensor | None:
        """Tokens [L', D] of one sample, its masked ones left out."""
        return x_BLD[item][self._trace.kept_BL[item]] if item < len(x_BLD) else None


def compare(fixture: Fixture) -> Iterator[Line]:
    """One line for every output of the fixture, in the order of their names."""
    encoder = fixture.checkpoint.encoder()
    network = None if fixture.checkpoint.decoder is None else fixture.checkpoint.network()
    twins = (at_precision(encoder, "bf16"), None if network is None else at_precision(network, "bf16"))
    runs: dict[tuple[str, str, bool], Run | None] = {}
    for key in sorted(fixture.outputs):
        label = f"{fixture.name} {key}"
        case_name, _, rest = key.partition(".")
        mode, _, name = rest.partition(".")
        lowered = name.endswith(BF16_SUFFIX)
        if (case_name, mode, lowered) not in runs:
            case = fixture.case(case_name, mode)
            chosen = twins if lowered else (encoder, network)
            runs[case_name, mode, lowered] = None if case is None else Run(*chosen, case)
        run = runs[case_name, mode, lowered]
        if run is None:
            yield Line(verdict=UNKNOWN, name=label, detail="no input and settings belong to this case")
            continue
        base = name.removesuffix(BF16_SUFFIX)
        got = run.value("cls_token" if lowered and base == "cls" else base)
        if got is None:
            yield Line(verdict=UNKNOWN, name=label, detail="this model has no such output")
            continue
        wanted = fixture.outputs[key]
        if got.shape != wanted.shape:
            detail = f"shape {tuple(got.shape)}, the fixture has {tuple(wanted.shape)}"
            yield Line(verdict=MISS, name=label, detail=detail)
        elif lowered:
            yield _relative(label, got.double(), wanted.double())
        else:
            undecided = run.undecided() if name.startswith("infer.") else None
            yield _absolute(label, got.double(), wanted.double(), undecided)


def _absolute(label: str, got: Tensor, wanted: Tensor, undecided: Tensor | None) -> Line:
    """|got - wanted| <= ATOL + RTOL |wanted| everywhere, infinite in the same places.

    A pixel that lies on the other side of the mask's threshold is left out where it is `undecided`.
    """
    left_out = 0
    if undecided is not None:
        flipped = got != wanted if label.endswith(".mask") else torch.isinf(got) != torch.isinf(wanted)
        excused = undecided & (flipped if flipped.ndim == undecided.ndim else flipped.any(-1))
        left_out = int(excused.sum())
        got, wanted = got[~excused], wanted[~excused]
    if not wanted.numel():
        return Line(verdict=MISS, name=label, detail="nothing to compare")
    same = got == wanted  # covers infinities
    difference = torch.where(same, 0.0, (got - wanted).abs())
    within = bool((same | (difference <= ATOL + RTOL * wanted.abs())).all())
    detail = f"largest difference {float(difference.max()):.2e} (rtol {RTOL:g}, atol {ATOL:g})"
    if left_out:
        detail += f", {left_out} pixels at the mask's threshold left out"
    return Line(verdict=OK if within else MISS, name=label, detail=detail)


def _relative(label: str, got: Tensor, wanted: Tensor) -> Line:
    if not wanted.numel():
        return Line(verdict=MISS, name=label, detail="nothing to compare")
    difference = float((got - wanted).norm() / wanted.norm())
    detail = f"relative L2 {difference:.2e} (at most {BF16_RELATIVE:g})"
    return Line(verdict=OK if difference <= BF16_RELATIVE else MISS, name=label, detail=detail)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.depth.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="a fixture folder, or the folder of several")
    parser.add_argument("--num-heads", type=int, help="attention heads of a backbone whose config does not say")
    options = parser.parse_args(arguments)
    compared = missed = unknown = 0
    try:
        for fixture in read_fixtures(options.folder, options.num_heads):
            lines = list(compare(fixture))
            for line in lines:
                print(line)
            compared += sum(line.verdict != UNKNOWN for line in lines)
            missed += sum(line.verdict == MISS for line in lines)
            unknown += sum(line.verdict == UNKNOWN for line in lines)
            if not lines:
                print(f"{MISS:<8}{fixture.name}: outputs.safetensors is empty")
                missed += 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{compared} outputs compared, {missed} missed, {unknown} unknown")
    if not compared:
        print("nothing was compared: this run shows no parity", file=sys.stderr)
    return 0 if compared and not missed and not unknown else 1


if __name__ == "__main__":
    sys.exit(main())
