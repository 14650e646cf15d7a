"""`lingbot plan tokens`: what a dataset's depth tokens cost."""

import argparse
from typing import TYPE_CHECKING, Any

from components.arguments import number

if TYPE_CHECKING:
    from model.depth.planner import TokenPlan

HELP = "say what depth tokens cost: storage, GPU hours, bandwidth, and when to compute them again instead"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=number, required=True, help="of recordings")
    parser.add_argument("--views", type=int, default=3, help="cameras (3)")
    parser.add_argument("--rate", type=number, default=10.0, help="extracted frames a second (10)")
    parser.add_argument("--codec", default="int8", help="bf16, int8 or pca128-int8 (int8)")
    parser.add_argument("--teacher", default="dinov2_vitl14", help="backbone of LingBot-Depth (dinov2_vitl14)")
    parser.add_argument("--tokens", type=int, default=256, help="of a view (256)")
    parser.add_argument(
        "--monocular", action="store_true", help="depth is estimated by MoGe-2 first, as LingBot-VLA does"
    )
    parser.add_argument("--gpus", type=int, default=8, help="that train, each reading tokens (8)")
    parser.add_argument("--samples-per-second", type=number, default=100.0, help="of one GPU in training (100)")
    parser.add_argument("--passes", type=number, default=1.0, help="over the frames in training (1)")
    parser.add_argument("--views-per-second", type=number, help="measured throughput of the teacher on one GPU")
    parser.add_argument("--teraflops", type=number, help="sustained by one GPU, where no throughput is given (200)")
    parser.add_argument("--bandwidth", type=number, help="GB/s that the storage gives to all GPUs together")
    parser.add_argument("--months", type=number, help="that the tokens are kept (6)")
    parser.add_argument("--gpu-hour-price", type=number, help="USD (3)")
    parser.add_argument("--terabyte-month-price", type=number, help="USD (23)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    plan = _plan(args)
    print(json.dumps(_figures(plan), indent=1) if args.json else "\n".join(_lines(plan, args.teacher, args.monocular)))
    return 0


def _plan(args: argparse.Namespace) -> "TokenPlan":
    from model.depth.planner import TokenPlan, teacher_flops
    from model.errors import UserError

    if args.tokens < 1:
        raise UserError(f"tokens is {args.tokens}: it must be above 0")
    flops, channels = teacher_flops(args.teacher, args.tokens, monocular=args.monocular)
    given: dict[str, Any] = {
        "views_per_second": args.views_per_second,
        "sustained_flops": None if args.teraflops is None else args.teraflops * 1e12,
        "bandwidth": None if args.bandwidth is None else args.bandwidth * 1e9,
        "months": args.months,
        "gpu_hour_price": args.gpu_hour_price,
        "terabyte_month_price": args.terabyte_month_price,
    }
    return TokenPlan(
        hours=args.hours,
        views=args.views,
        rate=args.rate,
        codec=args.codec,
        tokens=args.tokens,
        channels=channels,
        teacher_flops=flops,
        gpus=args.gpus,
        samples_per_second=args.samples_per_second,
        passes=args.passes,
        **{name: value for name, value in given.items() if value is not None},
    )


def _figures(plan: "TokenPlan") -> dict[str, Any]:
    import dataclasses

    names = (
        "frames", "view_bytes", "token_bytes", "index_bytes", "teacher_views_per_second", "gpu_hours", "sample_bytes",
        "read_bandwidth", "slowed_samples_per_second", "teacher_share", "disk_cost", "store_cost", "recompute_cost",
        "break_even_passes", "recompute_is_cheaper",
    )  # fmt: skip
    return dataclasses.asdict(plan) | {name: getattr(plan, name) for name in names}


def _lines(plan: "TokenPlan", teacher: str, monocular: bool) -> list[str]:
    from model.depth.codec import CODECS, bytes_per_token

    views = plan.frames * plan.views
    others = ", ".join(
        f"{codec} {_bytes(views * plan.tokens * bytes_per_token(codec, plan.channels))}"
        for codec in CODECS
        if codec != plan.codec
    )
    if plan.views_per_second:
        throughput = f"{plan.views_per_second:,.0f} views/s a GPU, as given"
    else:
        throughput = (
            f"{plan.teacher_flops / 1e9:,.0f} GFLOP a view at {plan.sustained_flops / 1e12:,.0f} TFLOP/s, "
            f"{plan.teacher_views_per_second:,.0f} views/s a GPU"
        )
    lines = [
        f"{plan.hours:,g} h, {plan.views} views at {plan.rate:g} Hz: {plan.frames:,.0f} frames, {views:,.0f} views of "
        f"{plan.tokens} tokens of {plan.channels} channels",
        f"storage      {_bytes(plan.token_bytes)} as {plan.codec} ({plan.view_bytes:,} bytes a view) and "
        f"{_bytes(plan.index_bytes)} of index; {others}",
        f"extraction   {plan.gpu_hours:,.1f} GPU hours: {teacher}{' after MoGe-2' if monocular else ''}, {throughput}",
        f"reading      {_bytes(plan.read_bandwidth)}/s: {plan.gpus} GPUs of {plan.samples_per_second:g} samples/s, "
        f"{_bytes(plan.sample_bytes)} a sample",
    ]
    if plan.slowed_samples_per_second < plan.samples_per_second:
        lines.append(
            f"             the storage gives {_bytes(plan.bandwidth or 0)}/s: {plan.slowed_samples_per_second:,.1f} "
            "samples/s a GPU, training waits for it"
        )
    lines += [
        f"recomputing  {plan.teacher_share:.0%} of the GPUs' time goes to the teacher if each step computes its tokens",
        f"cost         stored {plan.store_cost:,.0f} USD ({plan.disk_cost:,.0f} of it for {plan.months:g} months of "
        f"disk), recomputed {plan.recompute_cost:,.0f} USD in {plan.passes:g} pass{'es' * (plan.passes != 1)}",
        f"             recomputing is cheaper below {plan.break_even_passes:,.1f} passes over the frames: "
        f"{'recompute' if plan.recompute_is_cheaper else 'store'} for {plan.passes:g}",
    ]
    return lines


def _bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
