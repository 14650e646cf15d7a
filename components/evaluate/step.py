"""Evaluate a bundle: closed loop in the simulator on unseen seeds against baselines, open loop on held-out episodes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.data.packed import PackedDataset
    from model.evaluation.closed_loop import Rig

NAME = "evaluate"
INPUTS = ("policy", "packed")
SCHEMA_VERSION = 1
EVALUATION, TRIALS, MEDIA = "evaluation.json", "trials.jsonl", "media"
BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What is tried and how often.

    Attributes:
        task: simulated task that is judged; its instruction must be one that the policy was trained on.
        other_task: second task, told apart by the instruction alone: shows whether language matters.
        trials: unseen scenes a condition.
        first_seed: number of the first scene.
        execute_steps: control steps of a chunk that are executed before the policy looks again.
        num_steps: Euler steps a chunk; 0 takes the policy's own number.
        max_seconds: time limit of a trial in simulated seconds; 0 takes the task's own.
        baselines: also try the mean expert trajectory, the untrained policy, and the policy without sight.
        suite: simulated tasks that are tried as well, clean and randomised; a task that the policy was not trained on
            is tried zero-shot.
        suite_trials: unseen scenes a task and condition of the suite.
        latency_ms: simulated time from a look to its chunk; the chunk before goes on meanwhile.
        real_time: real-time chunking: a new chunk continues the one that goes on.
        language: also try the other task and both tasks with the instructions swapped.
        open_loop_looks: frames of held-out episodes from which a chunk is predicted; 0 leaves open loop out.
    """

    task: str = "lift_right"
    other_task: str = "lift_left"
    trials: int = 100
    first_seed: int = 0
    execute_steps: int = 10
    num_steps: int = 0
    max_seconds: float = 0.0
    baselines: bool = True
    language: bool = True
    open_loop_looks: int = 64
    suite: tuple[str, ...] = ()
    suite_trials: int = 20
    latency_ms: float = 0.0
    real_time: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "suite", tuple(self.suite))
        for name, least in (
            ("trials", 1),
            ("first_seed", 0),
            ("execute_steps", 1),
            ("num_steps", 0),
            ("suite_trials", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}: it must be {least} or more")
        zeros = {"max_seconds": "the task's own limit", "open_loop_looks": "no open loop", "latency_ms": "none"}
        for name, zero in zeros.items():
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be positive, or 0 for {zero}")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes evaluation.json, trials.jsonl and media/; a killed run goes on after its last finished trial."""
    import torch

    from model.bundle import load_bundle
    from model.data.packed import PackedDataset
    from model.data.seen import read_seen
    from model.evaluation.leakage import leakage_record
    from model.evaluation.records import TrialRecord, write_trials

    bundle = load_bundle(inputs["policy"] / BUNDLE)
    packed = PackedDataset.open(inputs["packed"])
    media = output / MEDIA
    media.mkdir(exist_ok=True)
    torch.set_num_threads(1)  # the same arithmetic, whatever ran in this process before
    evaluation: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "robot": bundle.robot.id,
        "task": parameters.task,
        "other_task": parameters.other_task,
        "bundle_digest": bundle.digest,
        "parameters": bundle.contract["parameters"],
        "packed": {"robot_type": packed.meta.robot_type, "counts": dict(packed.meta.counts)},
        "seeds": {"first": parameters.first_seed, "count": parameters.trials},
        "execute_steps": parameters.execute_steps,
        "latency": {"injected_ms": parameters.latency_ms, "real_time": parameters.real_time},
        "suite": {},
        "zero_shot": [],
        "violations": None,
        "closed_loop": None,
        "paired": {},
        "language": {},
        "films": {},
        "notes": [],
    }
    records: list[TrialRecord] = []
    reason = why_no_closed_loop(bundle, parameters)
    if reason is None:
        closed, records = closed_loop(inputs["policy"] / BUNDLE, bundle, packed, parameters, output, progress)
        evaluation |= closed
    else:
        progress.message(f"no closed loop: {reason}")
    evaluation["closed_loop_reason"] = reason
    evaluation["open_loop"], evaluation["open_loop_reason"] = open_loop(bundle, packed, parameters, media, progress)
    evaluation["views"] = save_views(bundle, packed, parameters, reason is None, media)
    write_trials(output / TRIALS, records)
    seeds = {record.seed for record in records if record.seed is not None}
    evaluation["leakage"], digests = leakage_record(packed, seeds, read_seen(bundle.path))
    evaluation["digests"] = {**digests, "trials": hashlib.sha256((output / TRIALS).read_bytes()).hexdigest()}
    text = json.dumps(evaluation, indent=1, sort_keys=True, allow_nan=False)
    (output / EVALUATION).write_text(text + "\n", encoding="utf-8")
    return summary(evaluation)


def why_no_closed_loop(bundle: "Bundle", parameters: Parameters) -> str | None:
    """Why the policy cannot be tried in closed loop, or None. Parameters that can never work are errors instead."""
    from model.evaluation.closed_loop import obstacle
    from model.simulation.tasks import find_task

    reason = obstacle(bundle)
    if reason:
        return reason
    _rig(bundle.path, parameters).pace(bundle)
    for task in parameters.suite:
        find_task(task)
    instruction = find_task(parameters.task).instruction
    if instruction not in bundle.contract["tasks"]:
        trained = ", ".join(f"'{task}'" for task in bundle.contract["tasks"])
        return f"the policy never saw the instruction '{instruction}' of task {parameters.task}, only {trained}"
    return None


def closed_loop(
    path: Path,
    bundle: "Bundle",
    packed: "PackedDataset",
    parameters: Parameters,
    output: Path,
    progress: Progress,
) -> tuple[dict[str, Any], list[Any]]:
    """Runs every condition on the same seeds; returns the figures for evaluation.json and the trial records."""
    from model.evaluation.actors import mean_trajectory
    from model.evaluation.closed_loop import SUITE, plan, plan_suite
    from model.evaluation.suite import suite_figures, violation_counts
    from model.evaluation.summary import closed_loop_figures
    from model.evaluation.workers import process_crew, run_jobs
    from model.simulation.tasks import find_task

    conditions, notes = choose_conditions(bundle, packed, parameters)
    trajectory = None
    if "mean_replay" in conditions:
        trajectory = mean_trajectory(packed, find_task(parameters.task).instruction)
    rig = _rig(path, parameters, trajectory)
    jobs = plan(
        conditions,
        task=parameters.task,
        other_task=parameters.other_task,
        trials=parameters.trials,
        first_seed=parameters.first_seed,
    )
    jobs += plan_suite(parameters.suite, trials=parameters.suite_trials, first_seed=parameters.first_seed)
    scratch = output / ".scratch"
    scratch.mkdir(exist_ok=True)
    with process_crew(rig.open, jobs=len(jobs)) as crew:
        file = scratch / f"trials-{rig.digest(bundle.digest)[:16]}.jsonl"
        records = run_jobs(jobs, crew, scratch=file, progress=progress)
        films = save_films(records, jobs, crew, float(bundle.contract["control_hz"]), output / MEDIA, progress)
    figures = closed_loop_figures([record for record in records if record.condition not in SUITE])
    figures |= {"suite": suite_figures(records), "violations": violation_counts(records)}
    untrained = [task for task in parameters.suite if find_task(task).instruction not in bundle.contract["tasks"]]
    figures["zero_shot"] = untrained
    return {**figures, "films": films, "notes": notes}, records


def _rig(path: Path, parameters: Parameters, trajectory: Any = None) -> "Rig":
    from model.evaluation.closed_loop import Rig

    return Rig(
        bundle=path,
        execute_steps=parameters.execute_steps,
        max_seconds=parameters.max_seconds,
        num_steps=parameters.num_steps or None,
        trajectory=trajectory,
        latency_ms=parameters.latency_ms,
        real_time=parameters.real_time,
    )


def choose_conditions(
    bundle: "Bundle", packed: "PackedDataset", parameters: Parameters
) -> tuple[tuple[str, ...], list[str]]:
    """The conditions that this policy and this data allow, and a sentence for each group that had to be left out."""
    from model.evaluation.closed_loop import BASELINES
    from model.simulation.tasks import find_task

    instruction, other = (find_task(name).instruction for name in (parameters.task, parameters.other_task))
    conditions, notes = ["policy"], []
    if parameters.baselines:
        conditions += BASELINES
        tasks = packed.meta.tasks
        trained = {tasks[packed.episode(number)["task"]] for number in packed.episodes("train")}
        if instruction not in trained:
            conditions.remove("mean_replay")
            notes.append(f"mean_replay was left out: the packed set has no training episode of '{instruction}'")
    if parameters.language:
        if other in bundle.contract["tasks"]:
            conditions += ["other_task", "swapped", "swapped_other"]
        else:
            notes.append(f"language was not tested: the policy never saw the instruction '{other}'")
    return tuple(conditions), notes


def save_films(
    records: list[Any], jobs: tuple[Any, ...], crew: Any, fps: float, media: Path, progress: Progress
) -> dict[str, Any]:
    """A filmstrip and a moving picture of one success and one failure of the policy, run again and watched.

    A policy that never fails (or never succeeds) is shown with a trial of another condition, which is named.
    """
    from model.evaluation.figures import filmstrip, save_animation, save_picture

    films: dict[str, Any] = {}
    for name, wanted in (("success", True), ("failure", False)):
        found = next((record for record in records if record.success == wanted), None)
        if found is None:
            continue
        progress.message(f"filming a {name}: {found.condition}, scene {found.seed}")
        again, frames = crew.film(next(job for job in jobs if job.key == found.key))
        assert again == found, f"the trial {found.key} ended differently when it was filmed: {again} != {found}"
        strip, columns = filmstrip(frames)
        save_picture(media / f"{name}.png", strip)
        save_animation(media / f"{name}.webp", frames, fps)
        films[name] = {
            "condition": found.condition,
            "task": found.task,
            "instruction": found.instruction,
            "seed": found.seed,
            "reason": found.reason,
            "seconds": [round(column / fps, 3) for column in columns],
            "cameras": list(frames[0]),
        }
    return films


def open_loop(
    bundle: "Bundle", packed: "PackedDataset", parameters: Parameters, media: Path, progress: Progress
) -> tuple[dict[str, Any] | None, str | None]:
    """The open-loop figures and a drawing of one held-out episode, or the reason why there are none."""
    from model.evaluation import open_loop as loop
    from model.evaluation.figures import save_open_loop

    if not parameters.open_loop_looks:
        return None, "switched off (evaluate.open_loop_looks is 0)"
    rows = packed.rows("holdout")
    if not len(rows):
        return None, "no episode is held out of training"
    progress.message("open loop on held-out episodes")
    chunks = loop.predict_chunks(bundle, packed, loop.spread(rows, parameters.open_loop_looks))
    drawn = loop.predict_chunks(bundle, packed, loop.example_rows(packed, rows, bundle.contract["horizon"]))
    save_open_loop(media / "open_loop.png", drawn, packed.meta.action_names, packed.meta.fps)
    return loop.open_loop_figures(bundle, packed, chunks), None


def save_views(
    bundle: "Bundle", packed: "PackedDataset", parameters: Parameters, simulated: bool, media: Path
) -> dict[str, Any]:
    """media/views.png: what the policy sees at the start of a trial, with depth below it; else a packed frame."""
    from model.evaluation.figures import depth_picture, depth_range, mosaic, save_picture

    if not simulated:
        images = packed.images(packed.rows("train")[:1])[0]
        save_picture(media / "views.png", mosaic([list(images)]))
        return {"source": "the first packed frame", "cameras": list(packed.meta.cameras), "depth": False}
    from model.simulation.environment import Simulation

    cameras = [camera["name"] for camera in bundle.contract["cameras"]]
    size = bundle.contract["cameras"][0]["height"]
    with Simulation(parameters.task, image_size=size, render_depth=True, cameras=cameras) as simulation:
        simulation.reset(parameters.first_seed)
        seen = simulation.observe()
    colour = [seen["images"][camera] for camera in cameras]
    depth = [depth_picture(seen["depth"][camera], depth_range([seen["depth"][camera]])) for camera in cameras]
    save_picture(media / "views.png", mosaic([colour, depth]))
    return {"source": f"the scene of seed {parameters.first_seed}", "cameras": cameras, "depth": True}


def summary(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The few figures that a person wants to see of an evaluation."""
    figures: dict[str, Any] = {"robot": evaluation["robot"], "bundle_digest": evaluation["bundle_digest"]}
    if evaluation["closed_loop"] is None:
        figures["closed_loop"] = f"none: {evaluation['closed_loop_reason']}"
    else:
        figures["task"] = evaluation["task"]
        figures["closed_loop"] = evaluation["closed_loop"]
        figures["paired"] = evaluation["paired"]
        figures["language"] = evaluation["language"]
    if evaluation["open_loop"] is not None:
        figures["open_loop_error"] = dict(
            zip(map(str, evaluation["open_loop"]["horizons"]), evaluation["open_loop"]["overall"]["mae"], strict=True)
        )
    return figures
