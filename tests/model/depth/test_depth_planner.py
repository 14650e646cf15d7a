"""The planner's arithmetic, against the table of SPEC_DEPTH section 7."""

import dataclasses

import pytest

from model.depth.planner import TokenPlan, teacher_flops
from model.errors import UserError

PLAN = TokenPlan(
    hours=20_000, views=3, rate=10, codec="bf16", tokens=256, channels=1024, teacher_flops=453e9, gpus=256,
    samples_per_second=100,
)  # fmt: skip


@pytest.mark.parametrize(
    ("codec", "view", "terabytes"), [("bf16", 524_288, 1132.5), ("int8", 262_656, 567.3), ("pca128-int8", 33_280, 71.9)]
)
def test_storage_is_that_of_the_table(codec: str, view: int, terabytes: float) -> None:
    plan = dataclasses.replace(PLAN, codec=codec)
    assert plan.view_bytes == view
    assert plan.token_bytes / 1e12 == pytest.approx(terabytes, abs=0.05)


def test_reading_is_that_of_the_table() -> None:
    assert PLAN.read_bandwidth / 1e9 == pytest.approx(40.3, abs=0.05)
    assert dataclasses.replace(PLAN, codec="pca128-int8").read_bandwidth / 1e9 == pytest.approx(2.6, abs=0.05)


def test_gpu_hours_are_those_of_the_table() -> None:
    """About 136 GPU hours a Hz at 200 TFLOP/s, 68 at 400."""
    assert PLAN.gpu_hours / PLAN.rate == pytest.approx(136, abs=1)
    assert dataclasses.replace(PLAN, sustained_flops=400e12).gpu_hours / PLAN.rate == pytest.approx(68, abs=0.5)


def test_a_measured_throughput_counts_instead_of_the_assumed_one() -> None:
    plan = dataclasses.replace(PLAN, views_per_second=1000.0)
    assert plan.gpu_hours == pytest.approx(20_000 * 3600 * 10 * 3 / 1000 / 3600)


def test_the_teacher_s_flops_are_those_that_were_counted() -> None:
    """338 GFLOP a view with every token through the last block; ours leaves out what nothing reads there."""
    flops, channels = teacher_flops("dinov2_vitl14", 256, monocular=False)
    assert channels == 1024
    assert 0.96 * 338e9 < flops < 338e9
    assert teacher_flops("dinov2_vitl14", 256, monocular=True)[0] - flops == 115e9


def test_recomputing_is_cheaper_below_the_break_even() -> None:
    at = PLAN.break_even_passes
    assert at > 1
    fewer, more = (dataclasses.replace(PLAN, passes=at + step) for step in (-0.1, 0.1))
    assert fewer.recompute_is_cheaper and fewer.recompute_cost < fewer.store_cost
    assert not more.recompute_is_cheaper and more.recompute_cost > more.store_cost


def test_a_smaller_codec_moves_the_break_even_towards_storing() -> None:
    assert dataclasses.replace(PLAN, codec="pca128-int8").break_even_passes < PLAN.break_even_passes


def test_a_slow_disk_holds_training_back() -> None:
    assert PLAN.slowed_samples_per_second == 100
    half = dataclasses.replace(PLAN, bandwidth=PLAN.read_bandwidth / 2)
    assert half.slowed_samples_per_second == pytest.approx(50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hours": 0}, "hours is 0: it must be above 0"),
        ({"rate": float("nan")}, "rate is nan: it must be above 0"),
        ({"bandwidth": -1.0}, "bandwidth is -1.0: it must be above 0"),
        ({"months": -1.0}, "months is -1.0: it must not be below 0"),
    ],
)
def test_impossible_plans_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PLAN, **change)


def test_unknown_names_are_named() -> None:
    with pytest.raises(UserError, match="unknown depth backbone 'dinov2_vitx14'.*Did you mean"):
        teacher_flops("dinov2_vitx14", 256, monocular=False)
    with pytest.raises(UserError, match="unknown token codec 'int4'"):
        _ = dataclasses.replace(PLAN, codec="int4").view_bytes
