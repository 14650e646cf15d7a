"""Errors of the token codecs on real and simulated frames, as a Markdown table.

    .venv/bin/python tests/benchmarks/token_codecs.py [--examples ../shared/rgbd_examples] [--teachers demo ...]

Real: the RGB-D examples, leaving one scene out at a time: the basis of pca128-int8 is fitted on crops of the seven
others and measured on the centre of that one. Seven scenes are few to fit on, so "real, varied" also fits on the same
crops mirrored, turned, in other colours and at other distances. Simulated: fitted on frames of some scenes and
measured on those of others. "Across" is fitted on simulated frames and measured on real ones. int8 has no basis; it is
measured on the same tokens. The cosine is of raw tokens; "less the mean" takes the basis' mean away from both first.
"Needed" counts the components whose unrounded projection reaches a cosine of 0.99 in the worst fold. "On itself" is the
cosine of a basis fitted on the measured tokens: what 128 components can do at most.

The teachers are the seeded stand-ins (random weights), not LingBot-Depth.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

from model.depth.codec import PCA_COMPONENTS, CodecError, Int8, PcaInt8, measure
from model.depth.pca import components_needed, fit_basis
from model.depth.teacher import Preprocessing, Teacher, seeded_teacher

HEADER = (
    "| teacher | channels | frames | measured tokens | int8 relative L2 | int8 cosine | pca128 relative L2 "
    "| pca128 cosine | smallest | less the mean | needed for 0.99 | on itself |\n" + "|---" * 12 + "|"
)
VIEWS = {"demo": (112, 64), "dinov2_vits14": (224, 256)}  # pixels and tokens of a view
Frame = tuple[np.ndarray, np.ndarray]  # uint8 [H, W, 3], float32 metres [H, W]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Errors on the measured tokens, and what bounds them."""

    tokens: int
    int8: dict[str, float]
    pca: dict[str, float]
    centred_cosine: float
    needed: int
    on_itself: float


def real_scenes(examples: Path) -> list[Frame]:
    """Colour and depth in metres of each RGB-D example."""
    scenes = []
    for folder in sorted(path for path in examples.iterdir() if path.is_dir()):
        colour = next(folder.glob("rgb.*"))
        millimetres = np.asarray(Image.open(folder / "raw_depth.png"), np.float32)
        scenes.append((np.asarray(Image.open(colour).convert("RGB")), millimetres / np.float32(1000)))
    return scenes


def crops(scene: Frame) -> list[Frame]:
    """Square cut-outs of one scene: the whole height three times, two thirds of it six times; the centre one first."""
    image, depth = scene
    height, width = depth.shape
    cut = [(0, (width - height) // 2, height), (0, 0, height), (0, width - height, height)]
    side = height * 2 // 3
    cut += [(top, left, side) for top in (0, height - side) for left in np.linspace(0, width - side, 3, dtype=int)]
    return [(image[t : t + s, x : x + s], depth[t : t + s, x : x + s]) for t, x, s in cut]


def variations(scene: Frame, rng: np.random.Generator) -> list[Frame]:
    """Each cut-out twice in other colours and at another distance, some mirrored; three of them mirrored and turned."""
    cut = crops(scene)
    found = [_jitter(image, depth, rng) for image, depth in cut * 2]
    found += [(image[:, ::-1], depth[:, ::-1]) for image, depth in cut[:3]]
    image, depth = cut[0]
    return [*found, (image[::-1], depth[::-1]), *[(np.rot90(image, n), np.rot90(depth, n)) for n in (1, 3)]]


def _jitter(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> Frame:
    colour = (
        (image[..., rng.permutation(3)].astype(np.float32) - 128) * rng.uniform(0.5, 1.6) * rng.uniform(0.7, 1.3, 3)
    )
    image = np.clip(colour + 128 + rng.uniform(-50, 50, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    return image, depth * np.float32(2 ** rng.uniform(-1, 1))


def simulated_scenes(seeds: Sequence[int], moments: int, image_size: int) -> list[list[Frame]]:
    """For each seed, frames of three cameras at some moments of the scripted expert's episode."""
    from model.robots import load_robot
    from model.simulation.environment import Simulation
    from model.simulation.expert import Expert

    cameras = tuple(load_robot("aloha_sim").cameras.values())
    scenes = []
    expert = Expert("lift_right")
    with Simulation("lift_right", image_size=image_size, render_depth=True) as simulation:
        for seed in seeds:
            plan = expert.plan(seed)
            wanted = set(np.linspace(0, len(plan) - 1, moments, dtype=int).tolist())
            simulation.reset(seed)
            frames: list[Frame] = []
            for number, action in enumerate(plan):
                if number in wanted:
                    seen = simulation.observe()
                    frames += [(seen["images"][camera], seen["depth"][camera]) for camera in cameras]
                simulation.step(action)
            scenes.append(frames)
    return scenes


def tokens_of(teacher: Teacher, frames: Sequence[Frame], preprocessing: Preprocessing) -> np.ndarray:
    """float32 [frames * N, C], frame by frame: crops differ in size."""
    tokens = [teacher.tokens(image[None].copy(), depth[None].copy(), preprocessing)[0] for image, depth in frames]
    return np.concatenate(tokens)


def fidelity(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> Fidelity:
    """Errors over all folds of (tokens to fit on, other tokens to measure on)."""
    int8, pca, centred, needed = CodecError(), CodecError(), CodecError(), 0
    for fitted, measured in folds:
        basis = fit_basis(fitted, PCA_COMPONENTS)
        int8.merge(measure(Int8(), measured))
        codec = PcaInt8(basis)
        pca.merge(measure(codec, measured))
        stored = np.empty_like(measured)
        codec.decode(*codec.encode(measured), out=stored)
        centred.add(stored - basis.mean, measured - basis.mean)
        needed = max(needed, components_needed(fit_basis(fitted, fitted.shape[1]), measured, 0.99))
    everything = np.concatenate([measured for _, measured in folds])
    return Fidelity(
        tokens=pca.tokens,
        int8=int8.summary(),
        pca=pca.summary(),
        centred_cosine=centred.summary()["cosine"],
        needed=needed,
        on_itself=measure(PcaInt8(fit_basis(everything, PCA_COMPONENTS)), everything).summary()["cosine"],
    )


def leave_one_out(groups: Sequence[np.ndarray], measured: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each of `measured` with what the other groups give to fit on."""
    return [
        (np.concatenate([group for other, group in enumerate(groups) if other != number]), tokens)
        for number, tokens in enumerate(measured)
    ]


def line(teacher: str, channels: int, frames: str, found: Fidelity) -> str:
    return (
        f"| {teacher} | {channels} | {frames} | {found.tokens} | {found.int8['relative_l2']:.2%} "
        f"| {found.int8['cosine']:.6f} | {found.pca['relative_l2']:.2%} | {found.pca['cosine']:.5f} "
        f"| {found.pca['cosine_min']:.4f} | {found.centred_cosine:.5f} "
        f"| {found.needed} of {channels} | {found.on_itself:.5f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=Path, default=Path(__file__).parents[3] / "shared/rgbd_examples")
    parser.add_argument("--teachers", nargs="+", default=list(VIEWS), choices=list(VIEWS))
    parser.add_argument("--seeds", type=int, default=8, help="simulated scenes; half are fitted on, half measured")
    parser.add_argument("--moments", type=int, default=4, help="frames of each camera of a simulated scene")
    arguments = parser.parse_args()
    print(
        f"{date.today()}, {platform.processor() or platform.machine()}, numpy {np.__version__}\n\n{HEADER}", flush=True
    )
    scenes = [crops(scene) for scene in real_scenes(arguments.examples)]
    for name in arguments.teachers:
        size, count = VIEWS[name]
        teacher, preprocessing = seeded_teacher(name, 0), Preprocessing(image_size=size, num_tokens=count)
        real = [tokens_of(teacher, frames, preprocessing) for frames in scenes]
        centre = [tokens[:count] for tokens in real]
        print(line(name, teacher.channels, "real", fidelity(leave_one_out(real, centre))), flush=True)
        rng = np.random.default_rng(0)
        more = [tokens_of(teacher, variations(scene, rng), preprocessing) for scene in real_scenes(arguments.examples)]
        varied = [np.concatenate(pair) for pair in zip(real, more, strict=True)]
        print(line(name, teacher.channels, "real, varied", fidelity(leave_one_out(varied, centre))), flush=True)
        simulated = [
            tokens_of(teacher, frames, preprocessing)
            for frames in simulated_scenes(range(arguments.seeds), arguments.moments, size)
        ]
        half = len(simulated) // 2
        fitted, measured = np.concatenate(simulated[:half]), np.concatenate(simulated[half:])
        print(line(name, teacher.channels, "simulated", fidelity([(fitted, measured)])), flush=True)
        print(line(name, teacher.channels, "across", fidelity([(fitted, np.concatenate(centre))])), flush=True)


if __name__ == "__main__":
    main()
