"""Batches of a training: packed frames and teacher tokens to the policy's inputs and targets.

Augmentation is drawn from (seed, step), so a resumed training sees the same batches. With stored depth tokens the
images are augmented photometrically only (DESIGN section 6).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from model.config import PolicyConfig
from model.data.augmentation import Photometric, RandomCrop
from model.data.delta import SubtractState
from model.data.sampler import Sampler
from model.data.text import InstructionTokenizer
from model.data.transforms import Chain, ToCanonical
from model.errors import UserError
from model.vla.policy import Inputs, Targets


class Frames(Protocol):
    """The part of the packed dataset that batches need."""

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]: ...


class Tokens(Protocol):
    """The part of a token store, or of a teacher that runs while training, that batches need."""

    def of(self, batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Share of samples whose state is blanked, state noise (in normalised units), photometric jitter and crop."""

    state_dropout: float = 0.5
    state_noise: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.0
    crop: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BatchBuilder:
    """Makes the batch of a step. `token_mean` and `token_std`, broadcast to [V, N, C], standardise the teacher's
    tokens; without them the tokens are taken as they are. `subtract` makes actions differences to the state."""

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

    def __post_init__(self) -> None:
        if self.augmentation.crop and self.tokens is not None:
            raise UserError(
                f"crop is {self.augmentation.crop}, but stored depth tokens are of whole images: set it to 0."
            )

    def __call__(self, step: int) -> tuple[Inputs, Targets]:
        return self.build(self.sampler.batch(step), step)

    def build(self, rows: np.ndarray, step: int) -> tuple[Inputs, Targets]:
        """The batch of these rows, augmented as step `step` is."""
        raw = self.frames.batch(rows, self.config.horizon)
        random = np.random.Generator(np.random.Philox(key=[self.sampler.seed + 1, step]))
        ids, token_mask = self._text(raw["task"])
        state = self._augment_state(self.state(raw["state"]), random)
        inputs = Inputs(
            images=torch.from_numpy(self._augment_images(raw["images"], random)),
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

    def _text(self, task: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.tokenizer.encode([self.tasks[t] for t in task], self.config.text.max_length)

    def _augment_state(self, state: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.standard_normal(state.shape) * self.augmentation.state_noise
        keep = random.random((len(state), 1)) >= self.augmentation.state_dropout
        return (state + noise * (state != 0)) * keep

    def _augment_images(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        chosen = self.augmentation
        light = Photometric(brightness=chosen.brightness, contrast=chosen.contrast, saturation=chosen.saturation)
        images = light(images, random)
        return RandomCrop(share=chosen.crop)(images, random) if chosen.crop else images

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


Batches = Callable[[int], tuple[Inputs, Targets]]
