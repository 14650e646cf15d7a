"""How tokens are written: int8 with a scale a token, or bf16, and how far each is from bf16.

A token is one row of C channels. int8 keeps 8.1 bits a channel at C = 192: 0.7% relative L2 on the demo's tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.errors import unknown_name

LEVELS = 127


class Codec(Protocol):
    """float32 [..., C] to stored arrays and back. `scales` is empty where a codec needs none."""

    name: str
    dtype: str  # safetensors name of the stored values

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]: ...

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None: ...


class Bf16:
    """The upper half of a float32, rounded to nearest even, stored as uint16 bit patterns."""

    name = "bf16"
    dtype = "BF16"

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, None]:
        bits = np.ascontiguousarray(tokens, dtype=np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded >> np.uint32(16)).astype(np.uint16), None

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None:
        assert scales is None
        np.left_shift(values, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)


class Int8:
    """Symmetric, one float16 scale a token: value = integer * scale, integer within +-127."""

    name = "int8"
    dtype = "I8"

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        largest = np.abs(tokens).max(axis=-1)
        scales = (largest / LEVELS).astype(np.float16)
        # float16 rounds to nearest: one step up where that would push the largest value beyond 127
        short = scales.astype(np.float32) * LEVELS < largest
        scales = np.where(short, np.nextafter(scales, np.float16(np.inf)), scales)
        divisor = np.where(scales > 0, scales, np.float16(1)).astype(np.float32)
        return np.rint(tokens / divisor[..., None]).astype(np.int8), scales

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None:
        assert scales is not None
        np.multiply(values, scales[..., None], out=out, dtype=np.float32)


CODECS: dict[str, type[Codec]] = {"bf16": Bf16, "int8": Int8}


def find_codec(name: str) -> Codec:
    """The codec of that name. UserError for an unknown one."""
    if name not in CODECS:
        raise unknown_name("token codec", name, CODECS)
    return CODECS[name]()


@dataclass(kw_only=True)
class CodecError:
    """Running error of stored tokens against bf16: relative L2 over everything, and cosine a token."""

    squared_error: float = 0.0
    squared_norm: float = 0.0
    cosine_sum: float = 0.0
    cosine_min: float = 1.0
    tokens: int = 0

    def add(self, stored: np.ndarray, reference: np.ndarray) -> None:
        """Adds float32 tokens [..., C] as decoded and as bf16 has them."""
        error = (stored - reference).reshape(-1, stored.shape[-1])
        stored, reference = stored.reshape(error.shape), reference.reshape(error.shape)
        product = np.einsum("nc,nc->n", stored, reference)
        norms = np.sqrt(np.einsum("nc,nc->n", stored, stored) * np.einsum("nc,nc->n", reference, reference))
        cosine = np.where(norms > 0, product / np.where(norms > 0, norms, 1), 1.0)
        self.squared_error += float(np.einsum("nc,nc->", error, error, dtype=np.float64))
        self.squared_norm += float(np.einsum("nc,nc->", reference, reference, dtype=np.float64))
        self.cosine_sum += float(cosine.sum(dtype=np.float64))
        self.cosine_min = min(self.cosine_min, float(cosine.min(initial=1.0)))
        self.tokens += len(error)

    def merge(self, other: "CodecError") -> None:
        self.squared_error += other.squared_error
        self.squared_norm += other.squared_norm
        self.cosine_sum += other.cosine_sum
        self.cosine_min = min(self.cosine_min, other.cosine_min)
        self.tokens += other.tokens

    def summary(self) -> dict[str, float]:
        """Relative L2, mean and smallest cosine; 0 and 1 when nothing was measured."""
        norm = self.squared_norm
        return {
            "relative_l2": (self.squared_error / norm) ** 0.5 if norm > 0 else 0.0,
            "cosine": self.cosine_sum / self.tokens if self.tokens else 1.0,
            "cosine_min": self.cosine_min,
        }
