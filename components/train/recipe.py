"""What pretraining and fine-tuning make of their inputs: the policy's configuration, its transforms and its batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.train.parameters import TrainingParameters
from components.train.sets import TrainingSet, teacher_of
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from model.bundle import Preparation
    from model.config import PolicyConfig
    from model.data.normalization import Statistics
    from model.data.packed import PackedDataset
    from model.data.text import InstructionTokenizer
    from model.depth.store import TokenStore
    from model.robots import Robot
    from model.training.batches import BatchBuilder, Batches
    from model.training.loop import TrainingResult
    from model.vla.policy import Policy

TEXT_MARGIN = 4  # tokens beyond the longest training instruction, so that a rephrased one is not cut


def instructions(sets: Sequence[TrainingSet], parameters: TrainingParameters) -> list[str]:
    """The sentences that a training may show the policy.

    Raises:
        UserError: annotated texts are asked for, and no set has any.
    """
    metas = [one.packed.meta for one in sets]
    sentences = [task for meta in metas for task in meta.tasks]
    for name, share, texts, missing in (
        ("sub_task_share", parameters.sub_task_share, [meta.sub_tasks for meta in metas], "annotated sub-task"),
        (
            "task_text_share", parameters.task_text_share, [meta.task_texts for meta in metas],
            "annotated task text that differs from its own",
        ),
    ):  # fmt: skip
        if share and not any(texts):
            raise UserError(
                f"{name} is {share:g}, but {sets[0].packed.folder} has no {missing}: annotate the dataset before it is "
                f"packed (docs/annotation.md), or set {name}=0."
            )
        if share:
            sentences += [text for of_set in texts for text in of_set]
    return sentences


def check_lengths(sentences: Sequence[str], config: "PolicyConfig", tokenizer: "InstructionTokenizer") -> None:
    """UserError where a sentence is longer than the trained policy reads: the rest of it would be cut off."""
    longest = max(sentences, key=tokenizer.length)
    if tokenizer.length(longest) > config.text.max_length:
        raise UserError(
            f"the instruction '{longest}' takes {tokenizer.length(longest)} tokens, the pretrained policy reads "
            f"{config.text.max_length}: pretrain with its share of such sentences above 0 too, or shorten the sentence."
        )


def fit_config(
    base: "PolicyConfig",
    tokenizer: "InstructionTokenizer",
    horizon: int,
    depth_weight: float,
    goal_weight: float,
    sets: Sequence[TrainingSet],
    sentences: Sequence[str],
) -> "PolicyConfig":
    """`base` fitted to the data: views, length of the `sentences`, the teacher's shape, and only losses that have data.

    Several sets share the views by role: high, left wrist, right wrist.
    """
    from model.robots import ROLES

    meta = sets[0].packed.meta
    if meta.image_size != base.vision.image_size:
        raise UserError(
            f"packed frames are {meta.image_size} px, but policy '{base.name}' takes {base.vision.image_size}: "
            f"set pack.image_size={base.vision.image_size}."
        )
    depth, tokens = None, teacher_of(sets)
    if base.depth and depth_weight > 0 and tokens is not None:
        depth = replace(
            base.depth,
            weight=depth_weight,
            table_size=tokens.tokens_per_view,
            target_tokens=tokens.tokens_per_view,
            target_channels=tokens.channels,
            standardize=base.depth.standardize and not tokens.online,  # nothing has been measured that is not stored
        )
    has_goal = any(one.packed.meta.has_goal for one in sets)
    goal = replace(base.goal, weight=goal_weight) if base.goal and goal_weight > 0 and has_goal else None
    longest = max(map(tokenizer.length, sentences))
    text = replace(base.text, max_length=longest + TEXT_MARGIN)
    views = len(meta.cameras) if len(sets) == 1 else len(ROLES)
    return replace(base, views=views, horizon=horizon, text=text, depth=depth, goal=goal)


def preparation(
    packed: "PackedDataset",
    config: "PolicyConfig",
    normalization: str,
    tokenizer: "InstructionTokenizer",
    *,
    by_role: bool = False,
) -> "Preparation":
    """What training and serving share, from the packed set's own statistics. `by_role`: cameras take the policy's views
    by role, as in a mixture."""
    from model.bundle import prepare
    from model.robots import find_robot
    from model.training.mixture import views_by_role

    goal = packed.goal_statistics
    robot, cameras = find_robot(packed.meta), tuple(packed.meta.cameras)
    return prepare(
        robot=robot,
        cameras=cameras,
        statistics=training_statistics(packed, robot, config.horizon),
        mode=normalization,
        dimensions=config.dimensions,
        goal_mean=goal[0],
        goal_std=goal[1],
        tokenizer=tokenizer,
        control_hz=packed.meta.fps,
        tasks=tuple(packed.meta.tasks),
        views=views_by_role(robot, cameras) if by_role else None,
    )


def preparations(
    sets: Sequence[TrainingSet], config: "PolicyConfig", normalization: str, tokenizer: "InstructionTokenizer"
) -> "list[Preparation]":
    """That of each set. Sets of one robot share the statistics of the first of them: its values must mean the same
    whichever set they come from."""
    found: list[Preparation] = []
    first: dict[str, Preparation] = {}
    for one in sets:
        prepared = preparation(one.packed, config, normalization, tokenizer, by_role=len(sets) > 1)
        same = first.setdefault(prepared.robot.id, prepared)
        shared = ("state", "action", "statistics", "goal_mean", "goal_std")
        found.append(replace(prepared, **{name: getattr(same, name) for name in shared}))
    return found


def training_statistics(packed: "PackedDataset", robot: "Robot", horizon: int) -> dict[str, "Statistics"]:
    """The packed set's statistics; those of the action per step [T, A] where the robot's actions are differences."""
    from model.data.delta import SubtractState, delta_statistics

    subtract = SubtractState.of(robot)
    if subtract is None:
        return packed.statistics
    episodes = (packed.episode(number) for number in packed.episodes("train"))
    pairs = ((episode["state"], episode["action"]) for episode in episodes)
    return {**packed.statistics, "action": delta_statistics(pairs, horizon, subtract)}


def make_batches(
    config: "PolicyConfig",
    sets: Sequence[TrainingSet],
    prepared: "Sequence[Preparation]",
    parameters: TrainingParameters,
    task_weights: dict[int, float],
    progress: Progress,
    *,
    order: str = "weighted",
) -> "Batches":
    """The batches of a training. `task_weights` are those of the run's own set; the tasks of a further one weigh the
    same. `order`: see `components.train.pretrain.Parameters`."""
    from model.data.sampler import task_shares
    from model.training.mixture import Mixture, Part

    builders = []
    for place, (one, how) in enumerate(zip(sets, prepared, strict=True)):
        shares = task_shares(range(len(one.packed.meta.tasks)), None, 0) if place else task_weights
        # two seeds a set, for its order and its augmentation; the first set has the run's
        builder = _builder(config, one, how, parameters, shares, parameters.seed + 2 * place, order, progress)
        builders.append(replace(builder, name=f"{builder.name} in {one.packed.folder}") if place else builder)
    if prepared[0].views is None:
        return builders[0]
    parts = tuple(
        Part(name=builder.name, builder=builder, views=how.views or (), weight=one.weight)
        for one, how, builder in zip(sets, prepared, builders, strict=True)
    )
    return Mixture(parts=parts, batch_size=parameters.batch_size)


def _builder(
    config: "PolicyConfig",
    one: TrainingSet,
    prepared: "Preparation",
    parameters: TrainingParameters,
    task_weights: dict[int, float],
    seed: int,
    order: str,
    progress: Progress,
) -> "BatchBuilder":
    """The batches of one set."""
    import numpy as np

    from model.data.bad_samples import Tolerant
    from model.data.sampler import EpochSampler, FrameSampler, Sampler
    from model.depth.store import TokenStore
    from model.training.batches import BatchBuilder

    packed, depth = one.packed, one.depth if config.depth else None
    rows = packed.rows("train")
    sampler: Sampler
    if order == "epochs":
        sampler = EpochSampler(rows=rows, batch_size=parameters.batch_size, seed=seed)
    else:
        sampler = FrameSampler(
            rows=rows,
            early=packed.frames["progress"][rows] < parameters.early_fraction,
            tasks=packed.frames["task"][rows],
            early_share=parameters.early_share,
            task_weights=task_weights,
            batch_size=parameters.batch_size,
            seed=seed,
        )
    standardized = depth if config.depth and config.depth.standardize and isinstance(depth, TokenStore) else None
    return BatchBuilder(
        config=config,
        frames=Tolerant(packed, budget=parameters.unreadable_samples, report=progress.message),
        sampler=sampler,
        tokenizer=prepared.tokenizer,
        tasks=prepared.tasks,
        sub_tasks=tuple(packed.meta.sub_tasks),
        sub_task_share=parameters.sub_task_share,
        task_texts=tuple(packed.meta.task_texts),
        task_text_share=parameters.task_text_share,
        state=prepared.state,
        action=prepared.action,
        goal_mean=np.array(prepared.goal_mean),
        goal_std=np.array(prepared.goal_std),
        subtract=prepared.subtract,
        augmentation=parameters.augmentation(),
        tokens=depth,
        token_mean=standardized.place_mean if standardized else None,
        token_std=moving_scale(standardized) if standardized else None,
        name=packed.meta.robot,
    )


def moving_scale(tokens: "TokenStore") -> "np.ndarray":
    """float32 [C]: how far each channel moves about the mean picture, over all places.

    One scale for all places: a place where nothing ever moves must not be stretched to the size of one where it does.
    """
    import numpy as np

    return np.sqrt(np.square(tokens.place_std).mean((0, 1))).clip(1e-6)


def summary(policy: "Policy", result: "TrainingResult", sets: Sequence[TrainingSet]) -> dict[str, Any]:
    """What a person wants to know of a training: size, speed, losses, and whether depth was aligned."""
    from model.vla.policy import parameter_count

    if policy.config.depth:
        alignment = "on"
    elif any(one.depth for one in sets):
        alignment = "off by parameter"
    else:
        alignment = f"off: {sets[0].reason}"
    return {
        "parameters": parameter_count(policy),
        "steps": result.steps,
        "seconds": result.seconds,
        "depth_alignment": alignment,
        "goal_head": policy.config.goal is not None,
        **result.figures,
        **{f"loss_{name}": value for name, value in result.final_losses.items()},
    }
