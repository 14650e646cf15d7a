"""The bundle: the self-contained policy that training exports, evaluation loads, the registry holds, the server serves.

A folder of plain files: config.json, model.safetensors, normalization.json, transforms.json, robot.yaml,
tokenizer.json, golden.safetensors, MODEL_CARD.md and manifest.json with the sha256 of each. Nothing in it executes, and
nothing outside it is needed. Its digest is the sha256 of manifest.json.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from model.bundle_files import MANIFEST, SCHEMA_VERSION, read_manifest, sha256_of, verify_bundle, write_manifest
from model.config import PolicyConfig
from model.config import preset as policy_preset
from model.data.delta import SubtractState
from model.data.normalization import Normalize, Statistics
from model.data.text import InstructionTokenizer
from model.data.transforms import Chain, ResizeImage, ToCanonical, transform_from_json
from model.data.vectors import Pick
from model.errors import UserError
from model.inference import Inference, Observation
from model.robots import Robot, dump_robot, load_robot, parse_robot
from model.robots.layouts import UNPLACED
from model.vla.policy import Policy, parameter_count

__all__ = ["MANIFEST", "SCHEMA_VERSION", "Bundle", "Preparation", "create_bundle", "export_bundle", "load_bundle",
           "prepare", "read_manifest", "seeded_policy", "verify_bundle"]  # fmt: skip
_GOLDEN_IMAGE = "image."
GOLDEN_TOLERANCE = 2e-3  # of the normalised output's scale: other CPUs and thread counts round differently


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How observations become inputs and outputs become actions: what training and serving must share.

    `views` are the policy's views of the cameras, where it has others than these (a mixture's, by role); None: the
    cameras are its views, in their order.
    """

    robot: Robot
    cameras: tuple[str, ...]
    state: Chain
    action: Chain
    statistics: Mapping[str, Statistics]
    goal_mean: tuple[float, ...]
    goal_std: tuple[float, ...]
    tokenizer: InstructionTokenizer
    control_hz: float
    tasks: tuple[str, ...]
    subtract: SubtractState | None = None  # the policy's actions are differences to the state; statistics [T, A]
    views: tuple[int, ...] | None = None


class Bundle(Inference):
    """A policy loaded from its folder; immutable. `infer` comes from `Inference`."""

    def __init__(
        self, path: Path, manifest: dict[str, Any], config: PolicyConfig, policy: Policy, preparation: Preparation
    ):
        super().__init__(config=config, policy=policy, preparation=preparation)
        self.path = path
        self.manifest = manifest
        self.digest = sha256_of(path / MANIFEST)
        self.robot = preparation.robot
        self.contract: dict[str, Any] = manifest["contract"]

    def untrained(self, seed: int = 0) -> Inference:
        """The same architecture and preparation with fresh seeded weights: the baseline that has learned nothing."""
        return Inference(config=self.config, policy=seeded_policy(self.config, seed), preparation=self.preparation)

    def self_test(self) -> float:
        """Runs the golden observation; returns the largest difference relative to the golden output's scale.

        Raises:
            UserError: the difference exceeds the tolerance, so these weights do not compute here what they did there.
        """
        from safetensors.numpy import load_file

        golden = load_file(self.path / "golden.safetensors")
        observation = _golden_observation(self.preparation, golden)
        actual = self.infer([observation], seeds=[0])[0]
        expected = golden["actions"]
        difference = float(np.abs(actual - expected).max() / max(1e-6, np.abs(expected).max()))
        if not difference <= GOLDEN_TOLERANCE:
            raise UserError(
                f"bundle {self.path}: the golden observation gives actions that differ by {difference:.2e} (at most "
                f"{GOLDEN_TOLERANCE:.0e} is allowed): export the bundle again, or check this machine's arithmetic."
            )
        return difference


def seeded_policy(config: PolicyConfig, seed: int) -> Policy:
    """A policy with fresh weights that depend on the seed alone; the caller's random state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Policy(config).eval()


def export_bundle(path: Path, policy: Policy, preparation: Preparation, card: str) -> Bundle:
    """Writes the bundle of a policy into the folder `path` and loads it back, verified."""
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    config = policy.config
    _write_json(path / "config.json", {"schema_version": SCHEMA_VERSION, "policy": config.to_dict()})
    save_file({k: v.contiguous() for k, v in policy.state_dict().items()}, path / "model.safetensors")
    normalization = {key: statistics.to_json() for key, statistics in preparation.statistics.items()}
    goal = {"mean": list(preparation.goal_mean), "std": list(preparation.goal_std)}
    _write_json(path / "normalization.json", {"norm_stats": normalization, "goal": goal})
    optional: dict[str, Any] = {"subtract_state": preparation.subtract.to_json()} if preparation.subtract else {}
    if preparation.views is not None:
        optional["views"] = list(preparation.views)
    _write_json(
        path / "transforms.json",
        {
            **optional,
            "cameras": list(preparation.cameras),
            "image": ResizeImage(config.vision.image_size).to_json(),
            "state": preparation.state.to_json(),
            "action": preparation.action.to_json(),
            "tasks": list(preparation.tasks),
        },
    )
    (path / "robot.yaml").write_text(dump_robot(preparation.robot))
    preparation.tokenizer.save(path / "tokenizer.json")
    (path / "MODEL_CARD.md").write_text(card)
    inference = Inference(config=config, policy=policy, preparation=preparation)
    golden = _golden_arrays(preparation, config)
    observation = _golden_observation(preparation, golden)
    golden["actions"] = inference.infer([observation], seeds=[0])[0]
    save_arrays(golden, path / "golden.safetensors")
    for file in path.iterdir():
        file.chmod(0o644)  # safetensors writes for its user alone, and a server may be another
    write_manifest(path, _contract(path, config, preparation, parameter_count(policy)))
    return load_bundle(path)


def create_bundle(path: Path, *, preset: str = "debug", robot: str = "aloha_sim", seed: int = 0) -> Bundle:
    """Makes a bundle with seeded weights, for trying a client without training."""
    from dataclasses import replace

    chosen = load_robot(robot)
    if chosen.control_hz is None:
        raise UserError(
            f"robot '{chosen.id}' has no verified control rate: write control_hz in model/robots/{chosen.id}.yaml."
        )
    config = replace(policy_preset(preset), views=len(chosen.cameras))
    statistics = {"state": _statistics_of_limits(chosen), "action": _statistics_of_limits(chosen, actions=True)}
    task = "lift the cube with the right arm"
    preparation = prepare(
        robot=chosen,
        cameras=tuple(chosen.cameras.values()),
        statistics=statistics,
        mode="meanstd",
        dimensions=config.dimensions,
        goal_mean=(0.0,) * 3,
        goal_std=(1.0,) * 3,
        tokenizer=InstructionTokenizer.train([task], config.text.vocab_size),
        control_hz=chosen.control_hz,
        tasks=(task,),
    )
    card = f"# Untrained policy\n\nPreset `{preset}`, seeded weights (seed {seed}). It has learned nothing.\n"
    return export_bundle(path, seeded_policy(config, seed), preparation, card)


def prepare(
    *,
    robot: Robot,
    cameras: tuple[str, ...],
    statistics: Mapping[str, Statistics],
    mode: str,
    dimensions: int,
    goal_mean: tuple[float, ...],
    goal_std: tuple[float, ...],
    tokenizer: InstructionTokenizer,
    control_hz: float,
    tasks: tuple[str, ...],
    views: tuple[int, ...] | None = None,
) -> Preparation:
    """The preparation of a robot's data: normalise, then place in the policy's vector.

    Where the robot's actions are learned as differences, `statistics["action"]` is of those (`model.data.delta`).
    Joints that have no place in the vector (legs, in 55 dimensions) are left out; what comes back for them is where the
    normalisation has its 0.
    """
    state_slots, action_slots = robot.slots_in(dimensions)
    return Preparation(
        robot=robot,
        cameras=cameras,
        state=Chain((Normalize(statistics["state"], mode), *_placed(state_slots, dimensions))),
        action=Chain((Normalize(statistics["action"], mode), *_placed(action_slots, dimensions))),
        statistics=statistics,
        goal_mean=goal_mean,
        goal_std=goal_std,
        tokenizer=tokenizer,
        control_hz=control_hz,
        tasks=tasks,
        subtract=SubtractState.of(robot),
        views=views,
    )


def _placed(slots: tuple[int, ...], dimensions: int) -> tuple[Pick | ToCanonical, ...]:
    """Into the policy's vector, without the joints that have no place there."""
    kept = tuple(dim for dim, slot in enumerate(slots) if slot != UNPLACED)
    place = ToCanonical(tuple(slots[dim] for dim in kept), dimensions)
    return (place,) if len(kept) == len(slots) else (Pick(kept, len(slots)), place)


def load_bundle(path: Path, *, verify: bool = True, digest: str | None = None) -> Bundle:
    """Reads a bundle; with `verify`, every byte is checked against the manifest before any is parsed.

    Args:
        path: folder.
        verify: False for files that were checked just before.
        digest: which bundle it must be.

    Raises:
        UserError: not a bundle, another one than `digest`, a file that is missing, extra or changed, or one that this
            code cannot read.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if verify or digest is not None:
        verify_bundle(path, digest=digest)
    try:
        return _parse(path, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"bundle {path} cannot be read ({type(error).__name__}: {error}), though its bytes are those of its "
            f"manifest: export it again with this version."
        ) from error


def _parse(path: Path, manifest: dict[str, Any]) -> Bundle:
    from safetensors.torch import load_file

    config = PolicyConfig.from_dict(json.loads((path / "config.json").read_text())["policy"])
    policy = seeded_policy(config, 0)
    weights = load_file(path / "model.safetensors")
    _check_weights(path, policy, weights)
    policy.load_state_dict(weights, strict=True)
    normalization = json.loads((path / "normalization.json").read_text())
    transforms = json.loads((path / "transforms.json").read_text())
    preparation = Preparation(
        robot=parse_robot((path / "robot.yaml").read_text(), f"{path}/robot.yaml"),
        cameras=tuple(transforms["cameras"]),
        state=transform_from_json(transforms["state"]),
        action=transform_from_json(transforms["action"]),
        statistics={k: Statistics.from_json(v) for k, v in normalization["norm_stats"].items()},
        goal_mean=tuple(normalization["goal"]["mean"]),
        goal_std=tuple(normalization["goal"]["std"]),
        tokenizer=InstructionTokenizer.load(path / "tokenizer.json"),
        control_hz=manifest["contract"]["control_hz"],
        tasks=tuple(transforms["tasks"]),
        subtract=transform_from_json(transforms["subtract_state"]) if "subtract_state" in transforms else None,
        views=tuple(transforms["views"]) if "views" in transforms else None,
    )
    _check_contract(path, manifest["contract"], _contract(path, config, preparation, parameter_count(policy)))
    return Bundle(path, manifest, config, policy, preparation)


def _check_weights(path: Path, policy: Policy, weights: Mapping[str, Any]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            problems.append(f"{name} has shape {found[name]}, not {expected[name]}")
    if problems:
        raise UserError(
            f"bundle {path} has weights of another model code: {'; '.join(problems)}. "
            "Export it again with this version."
        )


def _check_contract(path: Path, promised: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
    """Robots are told the manifest's contract, and the other files make the answers."""
    differing = [key for key, value in actual.items() if promised[key] != value]
    hertz = promised["control_hz"]
    if isinstance(hertz, bool) or not isinstance(hertz, int | float) or not 0 < hertz < float("inf"):
        raise UserError(f"bundle {path} promises {hertz!r} actions a second, which is no rate. Export it again.")
    if differing:
        told = "; ".join(f"{key} is {promised[key]}, its files say {actual[key]}" for key in differing)
        raise UserError(
            f"bundle {path} has a {MANIFEST} whose contract is not that of its files: {told}. Export it again."
        )


def _contract(path: Path, config: PolicyConfig, preparation: Preparation, parameters: int) -> dict[str, Any]:
    robot = preparation.robot
    size = config.vision.image_size
    return {
        "robot": robot.id,
        "cameras": [{"name": name, "height": size, "width": size} for name in preparation.cameras],
        "state": list(robot.state_names),
        "action": list(robot.action_names),
        "horizon": config.horizon,
        "control_hz": preparation.control_hz,
        "tasks": list(preparation.tasks),
        "normalization_digest": sha256_of(path / "normalization.json"),
        "preset": config.name,
        "parameters": parameters,
    }


def _golden_arrays(preparation: Preparation, config: PolicyConfig) -> dict[str, np.ndarray]:
    """A fixed observation: noise of its own for each camera, a state half a deviation from the mean.

    Equal images would not tell exchanged cameras, and the mean state no changed deviations.
    """
    size, state = config.vision.image_size, preparation.statistics["state"]
    images = {
        f"{_GOLDEN_IMAGE}{camera}": np.random.Generator(np.random.Philox(number)).integers(
            0, 256, (size, size, 3), dtype=np.uint8
        )
        for number, camera in enumerate(preparation.cameras)
    }
    return {**images, "state": (state.mean + state.std / 2).astype(np.float32)}


def _golden_observation(preparation: Preparation, golden: Mapping[str, np.ndarray]) -> Observation:
    if "image" in golden:  # schema 1: the same for every camera
        images = dict.fromkeys(preparation.cameras, golden["image"])
    else:
        images = {camera: golden[f"{_GOLDEN_IMAGE}{camera}"] for camera in preparation.cameras}
    return Observation(images=images, state=golden["state"], task=preparation.tasks[0])


def _statistics_of_limits(robot: Robot, *, actions: bool = False) -> Statistics:
    limits = np.asarray(robot.limits, dtype=float)
    low, high = np.where(np.isfinite(limits), limits, (-1.0, 1.0)).T  # unverified limits: about a radian either way
    if actions and robot.subtracted_dims:  # a difference: a quarter of the range either way
        moved = [dim for dim, _ in robot.subtracted_dims]
        low[moved], high[moved] = (low - high)[moved] / 4, (high - low)[moved] / 4
    middle, quarter = (low + high) / 2, np.maximum((high - low) / 4, 1e-3)
    return Statistics(count=1, mean=middle, std=quarter, min=low, max=high, q01=low, q99=high, q02=low, q98=high)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
