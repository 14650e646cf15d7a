"""Batches of a training: packed frames and teacher tokens to the policy's inputs and targets.

Augmentation is drawn from (seed, step), so a resumed training sees the same batches, and for the whole batch, so a rank
that makes a slice makes what one process makes there. With stored depth tokens the images are augmented photometrically
only (DESIGN section 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from model.config import PolicyConfig
from model.data.augmentation import Augmentation
from model.data.delta import SubtractState
from model.data.sampler import Sampler
from model.data.text import InstructionTokenizer
from model.data.transforms import Chain, ToCanonical
from model.errors import UserError
from model.vla.policy import Inputs, Targets


class Batches(Protocol):
    """What training needs: the batch of a step as a pure function of it, whole or in slices."""

    def __call__(self, step: int, index: int = 0, count: int = 1) -> tuple[Inputs, Targets]:
        """Samples [index::count] of the step's batch. All slices together are the whole batch to the bit; a slice reads
        only its own frames."""

    def names(self, step: int) -> list[str]:
        """'dataset, episode E, frame F' of each sample of the whole batch."""


class Frames(Protocol):
    """The part of the packed dataset that batches need."""

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]: ...


class Tokens(Protocol):
    """The part of a token store, or of a teacher that runs while training, that batches need."""

    def of(self, batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class BatchBuilder:
    """Makes the batch of a step (`Batches`).

    `token_mean` and `token_std`, broadcast to [V, N, C], standardise the teacher's tokens; without them the tokens are
    taken as they are. `subtract` makes actions differences to the state. `name` is the data's, for messages. A share of
    the samples, `sub_task_share`, is told the sub-task of its frame (of `sub_tasks`) instead of the task; a frame
    without one keeps the task. Of those that keep it, a share `task_text_share` is told the annotated text of the whole
    episode (of `task_texts`), where there is one.
    """

    config: PolicyConfig
    frames: Frames
    sampler: Sampler
    tokenizer: InstructionTokenizer
    tasks: tuple[str, ...]
    state: Chain
    action: Chain
    goal_mean: np.ndarray
    goal_std: np.ndarray
    augmentation: Augmentation
    tokens: Tokens | None
    token_mean: np.ndarray | None
    token_std: np.ndarray | None
    subtract: SubtractState | None = None
    name: str = "packed set"
    sub_tasks: tuple[str, ...] = ()
    sub_task_share: float = 0.0
    task_texts: tuple[str, ...] = ()
    task_text_share: float = 0.0

    def __post_init__(self) -> None:
        if self.augmentation.crop and self.tokens is not None:
            raise UserError(
                f"crop is {self.augmentation.crop}, but stored depth tokens are of whole images: set it to 0."
            )

    def __call__(self, step: int, index: int = 0, count: int = 1) -> tuple[Inputs, Targets]:
        return self.build(self.sampler.batch(step), step, index, count)

    def names(self, step: int) -> list[str]:
        """'dataset, episode E, frame F' of each sample of the whole batch, as it was read."""
        return self.names_of(self.sampler.batch(step))

    def names_of(self, rows: np.ndarray) -> list[str]:
        """The samples of these rows. They are read: where one that is unreadable is replaced, the other is named."""
        raw = self.frames.batch(rows, self.config.horizon)
        places = zip(raw["episode"].tolist(), raw["frame"].tolist(), strict=True)
        return [f"{self.name}, episode {episode}, frame {frame}" for episode, frame in places]

    def build(self, rows: np.ndarray, step: int, index: int = 0, count: int = 1) -> tuple[Inputs, Targets]:
        """Samples [index::count] of the batch of these rows, augmented as step `step` is."""
        mine = slice(index, None, count)
        if not len(rows[mine]):
            raise UserError(f"a batch of {len(rows)} has no sample for slice {index} of {count}: raise batch_size.")
        raw = self.frames.batch(rows[mine], self.config.horizon)
        random = np.random.Generator(np.random.Philox(key=[self.sampler.seed + 1, step]))
        views, size = raw["image_mask"].shape[1], raw["images"].shape[-2]
        drawn = self.augmentation.draw(len(rows), self.config.dimensions, views, size, random).of(mine)
        raw = {**raw, "image_mask": self.augmentation.views(raw["image_mask"], drawn)}
        # drawn last, and only where it is asked for: the draws above stay as they are without
        told = {
            name: random.random(len(rows))[mine] < share
            for name, share in (("sub_task", self.sub_task_share), ("task_text", self.task_text_share))
            if share
        }
        ids, token_mask = self._text(raw, told)
        state = self.augmentation.state(self.state(raw["state"]), drawn)
        inputs = Inputs(
            images=torch.from_numpy(self.augmentation.images(raw["images"], drawn)),
            image_mask=torch.from_numpy(raw["image_mask"]),
            tokens=torch.from_numpy(ids),
            token_mask=torch.from_numpy(token_mask),
            state=torch.from_numpy(state.astype(np.float32)),
        )
        dimensions = dimension_mask(self.action)
        actions = raw["actions"] if self.subtract is None else self.subtract(raw["actions"], raw["state"])
        targets = Targets(
            actions=torch.from_numpy(self.action(actions).astype(np.float32)),
            step_mask=torch.from_numpy(~raw["action_pad"]),
            dimension_mask=torch.from_numpy(dimensions).expand(len(ids), -1),
            goal=torch.from_numpy(((raw["goal"] - self.goal_mean) / self.goal_std).astype(np.float32)),
            goal_mask=torch.from_numpy(raw["goal_mask"]),
            **self._teacher(raw),
        )
        return inputs, targets

    def _text(self, raw: Mapping[str, np.ndarray], told: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and mask of the instructions: `told` says for each annotated text which samples may get it."""
        sentences = [self.tasks[task] for task in raw["task"]]
        for name, texts in (("task_text", self.task_texts), ("sub_task", self.sub_tasks)):
            if name in told:
                for place in np.flatnonzero(told[name] & (raw[name] >= 0)):
                    sentences[place] = texts[raw[name][place]]
        return self.tokenizer.encode(sentences, self.config.text.max_length)

    def _teacher(self, raw: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Targets of the frames as they were packed: augmentation comes after."""
        if self.tokens is None:
            return {}
        tokens, mask = self.tokens.of(raw)
        if self.token_mean is not None:
            tokens = (tokens - self.token_mean) / self.token_std
        return {"depth_tokens": torch.from_numpy(tokens.astype(np.float32)), "depth_mask": torch.from_numpy(mask)}


def dimension_mask(chain: Chain) -> np.ndarray:
    """bool [D]: the canonical dimensions that the chain's robot has."""
    placed = next(t for t in chain.transforms if isinstance(t, ToCanonical))
    return placed.mask
