"""Fine-tuning: the pretrained policy on one task, with a share of the others so that language keeps its meaning.

Exports the bundle, the one thing that evaluation, the registry and the endpoint use.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.train import recipe
from components.train.launched import train_here, train_in_processes
from components.train.parameters import TrainingParameters
from components.train.pretrain import CONFIG, MIXTURE, TOKENIZER, WEIGHTS
from components.train.sets import open_sets
from components.train.training import CHECKPOINTS, run_training
from model.errors import UserError, unknown_name
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.packed import PackedDataset
    from model.training.world import World

NAME = "finetune"
INPUTS = ("packed", "tokens", "checkpoint")
BUNDLE = "bundle"
USUAL_TASK = "lift_right"  # what the embedded default evaluates


@dataclass(frozen=True, kw_only=True)
class Parameters(TrainingParameters):
    """`task` is an instruction of the dataset or a simulated task's name; empty takes lift_right where the data has it,
    else the data's first task. `replay` is the share of the other tasks in each batch: without it the policy forgets
    what the instruction changes. With a `lora_rank` above 0, adapters of that rank are trained instead of the weights,
    scaled by `lora_alpha` / `lora_rank`, and merged into them at the end."""

    task: str = ""
    replay: float = 0.35
    lora_rank: int = 0
    lora_alpha: int = 16
    steps: int = 250
    learning_rate: float = 5e-4
    warmup_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.replay < 1:
            raise UserError(f"replay is {self.replay}: it is the share of the other tasks, so choose 0 to below 1.")
        if self.lora_rank < 0 or self.lora_alpha < 1:
            raise UserError(
                f"lora_rank is {self.lora_rank} and lora_alpha {self.lora_alpha}: choose a rank of 0 (no adapters) or "
                "more, and an alpha of 1 or more."
            )


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Trains from the pretrained weights; resumes from the newest complete checkpoint in `output`."""
    if parameters.launched:
        return train_in_processes(NAME, inputs, output, parameters, progress)
    return train_here(train, inputs, output, parameters, progress)


def train(
    inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress, world: "World"
) -> dict[str, Any]:
    """`run` in one process of a world; rank 0 writes the result, and what others return is empty."""
    from safetensors.torch import load_file

    from model.bundle import export_bundle, seeded_policy
    from model.config import PolicyConfig
    from model.data.sampler import task_shares
    from model.data.seen import Seen, read_seen
    from model.data.text import InstructionTokenizer
    from model.data.view_statistics import view_statistics
    from model.training.lora import LoraConfig

    sets = open_sets(inputs)
    packed = sets[0].packed
    pretrained = json.loads((inputs["checkpoint"] / CONFIG).read_text())
    config = PolicyConfig.from_dict(pretrained["policy"])
    policy = seeded_policy(config, parameters.seed).train()
    policy.load_state_dict(load_file(inputs["checkpoint"] / WEIGHTS), strict=True)
    tokenizer = InstructionTokenizer.load(inputs["checkpoint"] / TOKENIZER)
    recipe.check_lengths(recipe.instructions(sets, parameters), config, tokenizer)
    mixture = pretrained.get(MIXTURE, [])
    prepared = recipe.preparation(packed, config, pretrained["normalization"], tokenizer, by_role=bool(mixture))
    favourite = task_number(packed, parameters.task)
    weights = task_shares(range(len(packed.meta.tasks)), favourite, parameters.replay)
    batches = recipe.make_batches(config, sets, [prepared], parameters, weights, progress)
    rank, alpha = parameters.lora_rank, parameters.lora_alpha
    lora = LoraConfig(rank=rank, alpha=alpha) if rank else None
    trained, result = run_training(policy, batches, parameters, output, progress, world, lora)
    if trained is None:
        return {}
    bundle_folder = output / BUNDLE
    shutil.rmtree(bundle_folder, ignore_errors=True)
    bundle_folder.mkdir()
    before = read_seen(inputs["checkpoint"]) or Seen(unknown=("the pretraining does not say what it was trained on",))
    before.and_then(NAME, packed, sets[0].robot.id).write(bundle_folder)
    card = model_card(packed, parameters, favourite, trained, mixture)
    # The endpoint holds what robots send against these.
    prepared = replace(prepared, statistics={**prepared.statistics, **view_statistics(packed)})
    bundle = export_bundle(bundle_folder, trained.eval(), prepared, card)
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return {
        **recipe.summary(trained, result, sets),
        "task": packed.meta.tasks[favourite],
        "robot": bundle.robot.id,
        "bundle_digest": bundle.digest,
        "normalization_digest": bundle.contract["normalization_digest"],
    }


def task_number(packed: "PackedDataset", task: str) -> int:
    """Number of the task: by instruction or by a simulated task's name; see `Parameters` for an empty one.

    Raises:
        UserError: the dataset has no such task; names the nearest.
    """
    from model.simulation.tasks import TASKS

    tasks = packed.meta.tasks
    if not task:
        usual = TASKS[USUAL_TASK].instruction
        return tasks.index(usual) if usual in tasks else 0
    sentence = TASKS[task].instruction if task in TASKS else task
    if sentence in tasks:
        return tasks.index(sentence)
    raise unknown_name("task for finetune.task", task, tasks)


def model_card(
    packed: "PackedDataset",
    parameters: Parameters,
    favourite: int,
    policy: Any,
    mixture: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The bundle's model card: what it is, what it was trained on, and what it is not."""
    from model.vla.policy import parameter_count

    meta, counts = packed.meta, packed.meta.counts
    hours = counts["steps"] / meta.fps / 3600
    others = ", ".join(f"'{t}'" for i, t in enumerate(meta.tasks) if i != favourite) or "none"
    beside = "; ".join(f"{one['robot']} {one['share']:.0%}, {one['train_episodes']} episodes" for one in mixture)
    pretrained = f"- Pretrained on a mixture: {beside}.\n" if mixture else ""
    told = (
        (parameters.sub_task_share, "of the annotated samples by their sub-task"),
        (parameters.task_text_share, "of those that keep their task by what was annotated for the whole episode"),
    )
    shares = ", ".join(f"{share:.0%} {which}" for share, which in told if share)
    instructions = f"- Instructions: {shares}.\n" if shares else ""
    return f"""# LingBot-VLA policy for {meta.robot}

- Architecture: LingBot-VLA, preset `{policy.config.name}`, {parameter_count(policy):,} parameters, chunks of \
{policy.config.horizon} actions at {meta.fps:g} Hz.
{pretrained}- Fine-tuned on: '{meta.tasks[favourite]}', with a share of {parameters.replay:g} of other tasks ({others}).
{instructions}\
- Data: {counts["train_episodes"]} training episodes ({hours:.2f} h), {counts["quarantined"]} quarantined, \
{counts["holdout_episodes"]} held out.
- Cameras: {", ".join(meta.cameras)} at {meta.image_size} px.
- Depth alignment: {"on" if policy.config.depth else "off"}.
- Hindsight goal head: {"on" if policy.config.goal else "off"}.
- Not for: other robots, other cameras, or instructions far from the training ones. Measured results are in the \
evaluation that the registry links to this version.
"""
