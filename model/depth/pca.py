"""Principal components of tokens: the basis of the codec pca128-int8, and how many components tokens need.

A basis is fitted once on tokens of sampled frames, stored beside the shards and digested: tokens of two bases do not
mix. Sums are float64 and the sign of a component is fixed, so equal tokens give equal bytes on one type of machine.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from model.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Mean and leading components of tokens.

    Attributes:
        mean: float32 [C].
        components: float32 [K, C], orthonormal, by falling variance.
        variance: float64 [C], of every component, those that are left out too.
    """

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray

    @cached_property
    def digest(self) -> str:
        """sha256 of mean and components."""
        digest = hashlib.sha256(f"{self.components.shape}\n".encode())
        digest.update(np.ascontiguousarray(self.mean).data)
        digest.update(np.ascontiguousarray(self.components).data)
        return digest.hexdigest()

    @property
    def explained(self) -> float:
        """Share of the variance that the kept components hold, on the tokens it was fitted on."""
        total = float(self.variance.sum())
        return float(self.variance[: len(self.components)].sum()) / total if total > 0 else 1.0

    def save(self, path: Path, fitted_on: dict[str, str | int]) -> None:
        """Writes the basis and what it was fitted on; replaces the file in one move."""
        from safetensors.numpy import save

        tensors = {"components": self.components, "mean": self.mean, "variance": self.variance}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(save(tensors, metadata={"fitted_on": json.dumps(fitted_on, sort_keys=True)}))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Basis":
        """UserError when the file is missing or holds no basis."""
        return read_basis(path)[0]


def read_basis(path: Path) -> tuple[Basis, dict[str, str | int]]:
    """The basis of a store, and what it was fitted on. UserError when the file is missing or holds no basis."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} is missing: the store's tokens cannot be read without it; restore it or extract again")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in ("mean", "components", "variance")}
            fitted_on = json.loads((file.metadata() or {})["fitted_on"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"{path} holds no basis of tokens ({error}): delete the store and extract again") from error
    return Basis(**arrays), fitted_on


def fit_basis(tokens: np.ndarray, components: int) -> Basis:
    """Basis of `tokens` float32 [n, C].

    Raises:
        UserError: fewer channels than components, or too few tokens to fit them.
    """
    count, channels = tokens.shape
    if channels < components:
        raise UserError(
            f"the teacher's tokens have {channels} channels, fewer than the {components} components of pca128-int8: "
            "choose the codec int8"
        )
    if count < 2 * channels:
        raise UserError(
            f"{count} tokens are too few to fit a basis of {channels} channels ({2 * channels} at least): "
            "choose the codec int8, or give more frames"
        )
    mean = tokens.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((channels, channels))
    for start in range(0, count, 65536):  # in parts: a float64 copy of all tokens would be four times their size
        part = tokens[start : start + 65536] - mean
        covariance += part.T @ part
    variance, vectors = np.linalg.eigh(covariance / count)
    vectors = vectors.T[::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    return Basis(
        mean=mean.astype(np.float32),
        components=np.ascontiguousarray(vectors[:components], dtype=np.float32),
        variance=np.maximum(variance[::-1], 0.0).copy(),
    )


def components_needed(fitted: Basis, tokens: np.ndarray, cosine: float) -> int:
    """The fewest components whose projection of `tokens` [n, C] has this mean cosine, without any rounding.

    `fitted` holds every component (K = C). This is what bounds a codec of principal components, whatever its rounding.
    """
    assert len(fitted.components) == len(fitted.mean), "all components are needed to count them"
    mean = fitted.mean.astype(np.float64)
    vectors = fitted.components.astype(np.float64)
    weights = (tokens - mean) @ vectors.T
    # a projection p_k = mean + sum of the first k terms; its product with the token and its norm grow term by term
    along = vectors @ mean
    product = np.cumsum(weights * (weights + along), axis=1) + (tokens @ mean)[:, None]
    squared = np.cumsum(weights * (weights + 2 * along), axis=1) + mean @ mean
    norms = np.sqrt(np.maximum(squared, 1e-30)) * np.linalg.norm(tokens, axis=1, keepdims=True)
    reached = (product / np.maximum(norms, 1e-30)).mean(axis=0) >= cosine
    return int(reached.argmax()) + 1 if reached.any() else len(mean)
