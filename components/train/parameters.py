"""How long and how a training step runs: what its section of params.yaml may say."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from model.errors import UserError
from model.training.parallelism import ActivationCheckpointing, Parallelism

if TYPE_CHECKING:
    from model.data.augmentation import Augmentation
    from model.training.config import TrainingConfig

# What changes speed, memory and how often something is tried, but not what is learned: a training may be resumed with
# others of these.
EXECUTION = (
    "accumulate", "save_every", "unreadable_samples", "bad_batches", "processes", "nodes", "cluster", "strategy",
    "replicate", "expert_shard", "activation_checkpointing", "compile",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingParameters:
    """What pretraining and fine-tuning have in common. params.yaml says what each means; beyond that:

    Attributes:
        accumulate: micro-batches that a process takes one after another in a step; `batch_size` is that of the step.
        schedule: of the learning rate, after the warm-up.
        backbone_rate, expert_rate, depth_rate: factors of the learning rate of the vision-language model, the action
            expert, and the queries and heads of depth alignment.
        frozen: those of the three that are not trained.
        insulate: the action loss does not reach the vision-language model (knowledge insulation).
        bad_batches: so many whose gradient is not finite are skipped, each named; one more stops the training.
        activation_checkpointing: what blocks compute again in the backward instead of keeping it.
        compile: blocks through torch.compile.
        processes: that train together, on each of the nodes.
        nodes: machines, of a cluster where there is more than one.
        cluster: a YAML file of its settings (components/launch); empty: this machine.
        strategy: of several processes: sharded weights (fsdp) or whole copies (ddp).
        replicate: with fsdp, copies of the sharded policy.
        expert_shard: with fsdp, processes that share one copy of the action expert; 0: all that share the policy's.
        sub_task_share: of the samples whose frame is annotated, the share whose instruction is the sub-task of that
            frame instead of the task.
        task_text_share: of the samples that keep the task, and whose episode has an annotated text of its own, the
            share whose instruction is that text.
    """

    steps: int
    batch_size: int = 32
    draws: int = 4
    learning_rate: float
    warmup_steps: int
    average_decay: float = 0.99
    early_share: float = 0.25
    early_fraction: float = 0.35
    state_dropout: float = 0.5
    state_noise: float = 0.05
    saturation: float = 0.0
    crop: float = 0.0
    view_dropout: float = 0.0
    precision: str = "auto"
    save_every: int = 100
    unreadable_samples: int = 0
    seed: int = 0
    accumulate: int = 1
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    backbone_rate: float = 1.0
    expert_rate: float = 1.0
    depth_rate: float = 1.0
    frozen: tuple[Literal["backbone", "expert", "depth"], ...] = ()
    insulate: bool = False
    bad_batches: int = 0
    activation_checkpointing: ActivationCheckpointing = "none"
    compile: bool = False
    processes: int = 1
    nodes: int = 1
    cluster: str = ""
    strategy: Literal["fsdp", "ddp"] = "fsdp"
    replicate: int = 1
    expert_shard: int = 0
    sub_task_share: float = 0.0
    task_text_share: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"steps is {self.steps}: a training takes at least 1 step.")
        shares = ("early_fraction", "state_dropout", "saturation", "view_dropout", "sub_task_share", "task_text_share")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: it is a share, so choose 0 to 1.")
        if not 0 <= self.crop < 1:
            raise UserError(f"crop is {self.crop}: it is the share of a side that may go, so choose 0 to below 1.")
        for name in ("unreadable_samples", "bad_batches", "backbone_rate", "expert_rate", "depth_rate"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more.")
        for name in ("accumulate", "processes", "nodes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        slices = self.accumulate * self.world_size
        if self.batch_size % slices:
            raise UserError(
                f"batch_size is {self.batch_size}: it must divide into {slices} equal parts, of {self.accumulate} "
                f"micro-batches (accumulate) on each of {self.world_size} processes."
            )
        self.parallelism(self.world_size).resolve(self.world_size)

    @property
    def world_size(self) -> int:
        return self.nodes * self.processes

    @property
    def launched(self) -> bool:
        """Whether it trains in processes of its own."""
        return self.world_size > 1 or bool(self.cluster)

    def augmentation(self) -> "Augmentation":
        from model.data.augmentation import Augmentation

        return Augmentation(
            state_dropout=self.state_dropout,
            state_noise=self.state_noise,
            saturation=self.saturation,
            crop=self.crop,
            view_dropout=self.view_dropout,
        )

    def training(self) -> "TrainingConfig":
        from model.training.config import TrainingConfig
        from model.training.optimizer import OptimizerConfig

        return TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            draws=self.draws,
            accumulate=self.accumulate,
            optimizer=OptimizerConfig(
                learning_rate=self.learning_rate,
                warmup_steps=self.warmup_steps,
                schedule=self.schedule,
                backbone_rate=self.backbone_rate,
                expert_rate=self.expert_rate,
                depth_rate=self.depth_rate,
                frozen=self.frozen,
            ),
            average_decay=self.average_decay,
            precision=self.precision,
            save_every=self.save_every,
            bad_batches=self.bad_batches,
            insulate=self.insulate,
            seed=self.seed,
        )

    def parallelism(self, world_size: int) -> Parallelism:
        """How a world of that size trains; one process is always a single one."""
        alone = world_size == 1
        return Parallelism(
            strategy="single" if alone else self.strategy,
            replicate=1 if alone else self.replicate,
            expert_shard=0 if alone else self.expert_shard,
            activation_checkpointing=self.activation_checkpointing,
            compile=self.compile,
        )

    def learned(self) -> dict[str, Any]:
        """What decides what is learned: a resumed training has the same."""
        return {name: value for name, value in asdict(self).items() if name not in EXECUTION}
