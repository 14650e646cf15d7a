"""`lingbot plan training`: time, money and the bound of a training on many GPUs, beside the paper's points."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.arguments import number

if TYPE_CHECKING:
    from model.training.scaling import Fit, ScalingPlan

HELP = "say how long a training takes on a number of GPUs, what it costs, and which bound holds"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", type=int, required=True, help="that train")
    parser.add_argument("--hours", type=number, required=True, help="of recordings")
    parser.add_argument("--rate", type=number, default=10.0, help="frames a second that are samples (10)")
    parser.add_argument("--passes", type=number, default=1.0, help="over the frames (1)")
    parser.add_argument("--preset", default="lingbot_vla_4b", help="the policy (lingbot_vla_4b)")
    parser.add_argument("--gpu", default="h100", help="h100, h200, h800, h20 or a100 (h100)")
    parser.add_argument("--batch", type=int, default=32, help="samples a step on each GPU (32)")
    parser.add_argument("--draws", type=int, default=1, help="noise draws of a sample (1)")
    parser.add_argument("--mfu", type=number, help="share of the peak that one node sustains (0.5, the target)")
    parser.add_argument("--spread", type=number, help="of step times over GPUs (fitted to the paper's points)")
    parser.add_argument("--recompute", default="none", help="activations: none, selective or full (none)")
    parser.add_argument("--network", type=number, help="GB/s of each GPU to other nodes (its data sheet's)")
    parser.add_argument("--cores", type=number, help="of the host for each GPU (12)")
    parser.add_argument("--loader", default="packed", help="what is read: packed or video (packed)")
    parser.add_argument("--bandwidth", type=number, help="GB/s that the storage gives to all GPUs together")
    parser.add_argument("--gpu-hour-price", type=number, help="USD (3)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw rates against GPUs: FILE.png or FILE.svg")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from model.training import scaling

    price = scaling.GPU_HOUR_PRICE if args.gpu_hour_price is None else args.gpu_hour_price
    _check(args, price)
    fit = scaling.fit_paper()
    plan = _plan(args, fit)
    if args.picture is not None:
        from model.training.scaling_picture import draw_scaling

        draw_scaling(args.picture, plan, fit)
    samples = args.hours * 3600 * args.rate * args.passes
    figures = _figures(plan, fit, samples, price)
    print(json.dumps(figures, indent=1) if args.json else "\n".join(_lines(args, plan, figures)))
    return 0


def _check(args: argparse.Namespace, price: float) -> None:
    from model.errors import UserError
    from model.training.scaling_picture import check_suffix

    for name in ("hours", "rate", "passes", "network", "bandwidth"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"{name} is {value}: it must be a number above 0.")
    if price < 0:
        raise UserError(f"gpu-hour-price is {price}: it must be 0 or more.")
    if args.picture is not None:
        check_suffix(args.picture)


def _plan(args: argparse.Namespace, fit: "Fit") -> "ScalingPlan":
    from dataclasses import replace

    from model.config import preset
    from model.training.scaling import ScalingPlan, find_gpu

    gpu = find_gpu(args.gpu)
    given: dict[str, Any] = {
        "mfu": args.mfu,
        "cores": args.cores,
        "storage": None if args.bandwidth is None else args.bandwidth * 1e9,
    }
    return ScalingPlan(
        config=preset(args.preset),
        gpus=args.gpus,
        gpu=gpu if args.network is None else replace(gpu, network=args.network * 1e9),
        batch=args.batch,
        draws=args.draws,
        spread=fit.spread if args.spread is None else args.spread,
        recompute=args.recompute,
        loader=args.loader,
        **{name: value for name, value in given.items() if value is not None},
    )


def _figures(plan: "ScalingPlan", fit: "Fit", samples: float, price: float) -> dict[str, Any]:
    from model.training.scaling import PAPER, parameters_of, share_of_linear

    hours = plan.hours(samples)
    shares = share_of_linear(PAPER)
    return {
        "samples": samples,
        "parameters": parameters_of(plan.config),
        "sample_flops": plan.sample_flops,
        "samples_per_second": plan.samples_per_second,
        "samples_per_second_per_gpu": plan.samples_per_second / plan.gpus,
        "step_seconds": plan.step_seconds,
        "seconds": plan.seconds,
        "bound": plan.bound,
        "waiting": plan.step_seconds / max(plan.seconds.values()),
        "mfu": plan.mfu,
        "reached_mfu": plan.reached_mfu,
        "spread": plan.spread,
        "state_bytes": plan.state_bytes,
        "activation_bytes": plan.activation_bytes,
        "fits": plan.fits,
        "largest_batch": plan.largest_batch,
        "hours": hours,
        "gpu_hours": hours * plan.gpus,
        "cost": hours * plan.gpus * price,
        "gpu_hour_price": price,
        "paper": {
            str(gpus): {"samples_per_second": rate, "share_of_linear": shares[gpus], "fit_error": fit.errors[gpus]}
            for gpus, rate in PAPER.items()
        },
        "paper_fit": {"mfu": fit.mfu, "spread": fit.spread},
    }


def _lines(args: argparse.Namespace, plan: "ScalingPlan", figures: dict[str, Any]) -> list[str]:
    gpu = plan.gpu
    seconds = ", ".join(f"{name} {value:.3f}" for name, value in plan.seconds.items())
    memory = f"{plan.state_bytes / 1e9:.1f} GB of state and {plan.activation_bytes / 1e9:.1f} GB of activations"
    lines = [
        f"{args.hours:,g} h at {args.rate:g} Hz, {args.passes:g} pass{'es' * (args.passes != 1)}: "
        f"{figures['samples']:,.0f} samples of {plan.config.name}, {plan.sample_flops / 1e12:.2f} TFLOP each with "
        f"{plan.draws} draw{'s' * (plan.draws != 1)}",
        f"rate     {plan.samples_per_second:,.0f} samples/s on {plan.gpus} x {gpu.name}, "
        f"{plan.samples_per_second / plan.gpus:.1f} a GPU: steps of {plan.step_seconds:.3f} s, "
        f"{plan.batch} samples on each; MFU {plan.reached_mfu:.1%}",
        f"bound    {plan.bound}; seconds a step: {seconds} ({plan.mfu:.0%} of {gpu.flops / 1e12:.0f} TFLOP/s)",
        f"memory   {memory} of {gpu.memory / 1e9:.0f} GB, recomputing {plan.recompute}: {_fit(plan)}",
        f"time     {_duration(figures['hours'])}",
        f"cost     {figures['cost']:,.0f} USD: {figures['gpu_hours']:,.1f} GPU hours at {figures['gpu_hour_price']:g}",
    ]
    if figures["waiting"] > 1:
        late = f"steps are {figures['waiting'] - 1:.1%} longer than on one node: they wait for the slowest of the GPUs"
        lines.insert(3, f"waiting  {late}")
    published = figures["paper"].get(str(plan.gpus))
    if published:
        lines.append(
            f"paper    {published['samples_per_second']:,.0f} samples/s on {plan.gpus} GPUs, "
            f"{published['share_of_linear']:.1%} of linear from 8; the plan is "
            f"{plan.samples_per_second / published['samples_per_second']:.2f} times that"
        )
    return lines


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours:,.1f} h" + (f", {hours / 24:,.1f} days" if hours > 24 else "")


def _fit(plan: "ScalingPlan") -> str:
    if plan.fits:
        return f"fits, up to a batch of {plan.largest_batch}"
    if plan.largest_batch:
        return f"does NOT fit; choose a batch of at most {plan.largest_batch}, or recompute more"
    return "does NOT fit at any batch; shard over more GPUs, or recompute more"
