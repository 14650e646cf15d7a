"""Pretraining: one policy on all tasks of the packed set, aligned with the depth teacher's tokens."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.train import recipe
from components.train.launched import train_here, train_in_processes
from components.train.parameters import TrainingParameters
from components.train.sets import check_commands, open_sets, shares
from components.train.training import CHECKPOINTS, run_training
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.training.world import World

NAME = "pretrain"
INPUTS = ("packed", "tokens")
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
DIMENSIONS = (0, 75, 55)  # model/robots/layouts.py
MIXTURE = "mixture"  # in config.json and the summary: robots and their shares; views are by role then


@dataclass(frozen=True, kw_only=True)
class Parameters(TrainingParameters):
    """`depth_weight` or `goal_weight` 0 switches that loss, its queries and its head off. `initial_checkpoint` is a
    folder that `lingbot checkpoint import`, an earlier pretraining or a bundle's export wrote; its sizes and its
    tokenizer count then, not those of `preset`. `mixture` is a YAML file of further packed sets to learn from, of other
    robots too (components/train/mixture_file.py). `dimensions` are those of the policy's vector: 75 (LingBot-VLA 1.0),
    55 (2.0), or 0 for what the preset or the checkpoint has. `order` is `weighted`, by task and `early_share`, or
    `epochs`: every frame once before any comes again."""

    preset: str = "demo"
    initial_checkpoint: str = ""
    mixture: str = ""
    dimensions: int = 0
    order: Literal["weighted", "epochs"] = "weighted"
    horizon: int = 20
    normalization: str = "meanstd"
    depth_weight: float = 0.2
    goal_weight: float = 1.0
    steps: int = 600
    learning_rate: float = 1e-3
    warmup_steps: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimensions not in DIMENSIONS:
            raise UserError(
                f"dimensions is {self.dimensions}: robots are placed in 75 dimensions (LingBot-VLA 1.0) or 55 (2.0); 0 "
                "takes what the preset or the checkpoint has."
            )


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Trains from seeded or initial weights; resumes from the newest complete checkpoint in `output`."""
    if parameters.launched:
        return train_in_processes(NAME, inputs, output, parameters, progress)
    return train_here(train, inputs, output, parameters, progress)


def train(
    inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress, world: "World"
) -> dict[str, Any]:
    """`run` in one process of a world; rank 0 writes the result, and what others return is empty."""
    from safetensors.torch import save_file

    from components.train.start import find_start
    from model.bundle import seeded_policy
    from model.data.sampler import task_shares

    sets = open_sets(inputs, parameters.mixture)
    sentences = recipe.instructions(sets, parameters)
    start = find_start(parameters.preset, parameters.initial_checkpoint, sentences, parameters.dimensions)
    config = recipe.fit_config(
        start.config,
        start.tokenizer,
        parameters.horizon,
        parameters.depth_weight,
        parameters.goal_weight,
        sets,
        sentences,
    )
    check_commands(sets[0].robot, config.dimensions)
    policy = seeded_policy(config, parameters.seed).train()
    start.load(policy, progress)
    prepared = recipe.preparations(sets, config, parameters.normalization, start.tokenizer)
    weights = task_shares(range(len(prepared[0].tasks)), None, 0)
    batches = recipe.make_batches(config, sets, prepared, parameters, weights, progress, order=parameters.order)
    trained, result = run_training(policy, batches, parameters, output, progress, world)
    if trained is None:
        return {}
    save_file(trained.state_dict(), output / WEIGHTS)
    start.tokenizer.save(output / TOKENIZER)
    seen = start.seen
    for one in sets:
        seen = seen.and_then(NAME, one.packed, one.robot.id)
    seen.write(output)
    facts = {"schema_version": 1, "policy": config.to_dict(), "normalization": parameters.normalization}
    mixture = shares(sets)
    if mixture:
        facts[MIXTURE] = mixture
    (output / CONFIG).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return {**recipe.summary(trained, result, sets), **({MIXTURE: mixture} if mixture else {})}
