"""Speed of the depth encoder in bf16 against its fp32 twin, held against what the machine's matrix products gain.

    .venv/bin/python tests/benchmarks/depth_encoder.py [--backbone dinov2_vits14] [--image-size 224] [--batch 3]

The goal: bf16 speeds the encoder up by at least half of the ratio of the bf16 and fp32 rates of the same matrix
products, measured in the same run. Prints JSON, then a sentence; exit code 1 when the goal is missed.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F

from model.depth.config import BACKBONES, PATCH, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.matrices import PRECISIONS, at_precision

GOAL = 0.5  # of the ratio of rates
Product = tuple[int, int, int, int]  # batch, rows, inner, columns


def products(config: DepthConfig, batch: int, tokens: int) -> list[Product]:
    """Every matrix product of one `infer_feat`, in order; the last block computes the tokens that are read."""
    size, dim, out = config.size, config.size.dim, []
    length, read = 1 + size.registers + 2 * tokens, 1 + size.registers + tokens
    for channels in (3, 1):
        out.append((1, batch * tokens, channels * PATCH**2, dim))
    for block in range(config.layers[-1] + 1):
        queries = read if block == config.layers[-1] else length
        if queries == length:
            out.append((1, batch * length, dim, 3 * dim))
        else:
            out += [(1, batch * queries, dim, dim), (1, batch * length, dim, 2 * dim)]
        head = dim // size.heads
        out += [(batch * size.heads, queries, head, length), (batch * size.heads, queries, length, head)]
        wide = 2 * size.hidden if size.ffn == "swiglu" else size.hidden
        out += [(1, batch * queries, *shape) for shape in ((dim, dim), (dim, wide), (size.hidden, dim))]
    return out + [(1, batch * tokens, dim, config.dim_out) for _ in config.layers]


def seconds(run: Callable[[], object], device: str, budget: float) -> float:
    """Fastest of the runs that fit `budget` seconds, one at least.

    On a CPU these are seconds of processor time, of all threads: what else runs on the machine does not count.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    taken: list[float] = []
    while not taken or sum(taken) + taken[-1] < budget:
        began = clock()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - began)
    return min(taken)


def product_seconds(shapes: list[Product], dtype: torch.dtype, device: str, budget: float) -> float:
    """Time of all of them, each distinct size measured alone."""
    total = 0.0
    for shape in sorted(set(shapes)):
        batch, rows, inner, columns = shape
        left = torch.randn(batch, rows, inner, device=device).to(dtype)
        right = torch.randn(batch, columns, inner, device=device).to(dtype)
        if batch == 1:  # a layer: weights [columns, inner] and a bias
            bias = torch.zeros(columns, device=device, dtype=dtype)
            took = seconds(lambda: F.linear(left[0], right[0], bias), device, budget)  # noqa: B023 (run at once)
        else:
            took = seconds(lambda: left @ right.transpose(1, 2), device, budget)  # noqa: B023
        total += took * shapes.count(shape)
    return total


def processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    fast = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {flag} " in text.replace("\n", " ")]
    return f"{names[0] if names else platform.machine()} ({', '.join(fast[:2])})"


def measure(backbone: str, image_size: int, batch: int, device: str, budget: float) -> dict[str, object]:
    tokens = (image_size // PATCH) ** 2
    config = DepthConfig(backbone=backbone, dim_out=BACKBONES[backbone].dim)
    torch.manual_seed(0)
    encoder = RGBDEncoder(config).to(device).eval().requires_grad_(False)
    image = torch.rand(batch, 3, image_size, image_size, device=device)
    depth = 0.5 + torch.rand(batch, image_size, image_size, device=device)
    shapes = products(config, batch, tokens)
    flops = 2 * sum(math.prod(shape) for shape in shapes)
    assert flops == batch * encoder.flops(tokens), (flops, batch * encoder.flops(tokens))
    took, rate, features = {}, {}, {}
    with torch.inference_mode():
        for name, dtype in PRECISIONS.items():
            twin = at_precision(encoder, name)

            def run(twin: RGBDEncoder = twin) -> torch.Tensor:
                return twin.infer_feat(image, depth, num_tokens=tokens, enable_depth_mask=False)[0]

            features[name] = run()  # warms up, too
            took[name] = seconds(run, device, budget)
            rate[name] = flops / product_seconds(shapes, dtype, device, budget / 10)
    speed_up, ratio = took["fp32"] / took["bf16"], rate["bf16"] / rate["fp32"]
    error = (features["bf16"] - features["fp32"]).norm() / features["fp32"].norm()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": processor(device),
        "clock": "wall" if device == "cuda" else "processor time, all threads",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "backbone": backbone,
        "image_size": image_size,
        "batch": batch,
        "gflop": round(flops / 1e9, 1),
        "encoder_seconds": {name: round(value, 4) for name, value in took.items()},
        "views_per_second": {name: round(batch / value, 3) for name, value in took.items()},
        "gemm_gflops": {name: round(value / 1e9, 2) for name, value in rate.items()},
        "speed_up": round(speed_up, 4),
        "gemm_ratio": round(ratio, 4),
        "goal": round(GOAL * ratio, 4),
        "met": speed_up >= GOAL * ratio,
        "relative_l2_of_bf16_features": round(float(error), 5),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="dinov2_vits14", choices=sorted(BACKBONES))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of measuring each encoder")
    options = parser.parse_args()
    result = measure(options.backbone, options.image_size, options.batch, options.device, options.budget)
    print(json.dumps(result, indent=2))
    print(
        f"bf16 runs the encoder {result['speed_up']} times as fast as fp32, its matrix products alone run "
        f"{result['gemm_ratio']} times as fast: the goal of half of that, {result['goal']}, is "
        f"{'met' if result['met'] else 'missed'}."
    )
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
