"""The machine's own matrix rate at the sizes of a step: what a step is compared with.

Every distinct product of the step is timed alone with the layouts that linear layers give it (forward x @ w.T,
gradients g @ w and g.T @ x) and weighs as often as it occurs.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from model.vla.flops import Product

REPETITIONS = 5
SECONDS_PER_SIZE = 0.05  # of all repetitions; where one call takes longer, one timed call has to do


class Size(NamedTuple):
    """`batch` products of [rows, inner] by [inner, columns]; the layout says which factor lies transposed."""

    layout: Literal["forward", "left", "right"]
    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.rows * self.inner * self.columns


@dataclass(frozen=True, kw_only=True)
class MatrixRate:
    """FLOP a second of wall time and a second of processor time (which all threads spend)."""

    per_wall_second: float
    per_cpu_second: float


def sizes(products: Iterable[Product], *, training: bool) -> Counter[Size]:
    """How often each size occurs in a forward, or in a forward and its backward."""
    counts: Counter[Size] = Counter()
    for p in products:
        counts[Size("forward", p.batch, p.rows, p.inner, p.columns)] += p.count
        if training and p.left:
            counts[Size("left", p.batch, p.rows, p.columns, p.inner)] += p.count
        if training and p.right:
            counts[Size("right", p.batch, p.columns, p.rows, p.inner)] += p.count
    return counts


def matrix_rate(products: Iterable[Product], dtype: torch.dtype, *, training: bool) -> MatrixRate:
    """The rate of bare products at the sizes of a step. Takes seconds; longer where the machine emulates `dtype`."""
    flops = 0
    wall = cpu = 0.0
    for size, count in sizes(products, training=training).items():
        seconds = _time(size, dtype)
        flops += count * size.flops
        wall += count * seconds[0]
        cpu += count * seconds[1]
    return MatrixRate(per_wall_second=flops / wall, per_cpu_second=flops / cpu)


def _time(size: Size, dtype: torch.dtype) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    left, right = factors(size, dtype)
    first = time.perf_counter()
    left @ right
    first = time.perf_counter() - first
    calls = max(1, min(1000, int(SECONDS_PER_SIZE / REPETITIONS / first)))
    walls, cpus = [], []
    for _ in range(REPETITIONS if first < SECONDS_PER_SIZE else 1):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            left @ right
        walls.append((time.perf_counter() - wall) / calls)
        cpus.append((time.process_time() - cpu) / calls)
    return sorted(walls)[len(walls) // 2], sorted(cpus)[len(cpus) // 2]


def factors(size: Size, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random factors in the layout of the size."""
    batch, m, k, n = size.batch, size.rows, size.inner, size.columns
    shape = (batch,) if batch > 1 else ()
    left = torch.randn(*shape, k, m).transpose(-1, -2) if size.layout == "right" else torch.randn(*shape, m, k)
    right = torch.randn(*shape, n, k).transpose(-1, -2) if size.layout == "forward" else torch.randn(*shape, k, n)
    return left.to(dtype), right.to(dtype)
