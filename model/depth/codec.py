"""How tokens are written: bf16, int8, or int8 of principal components, and how far each is from bf16.

A token is one row of C channels. int8 keeps 8.1 bits a channel at C = 192: 0.7% relative L2 on the demo's tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.depth.pca import Basis
from model.errors import unknown_name

LEVELS = 127
PCA_COMPONENTS = 128


class Codec(Protocol):
    """float32 [..., C] to stored values [..., K] and back; `scales` [...] is None where a codec needs none."""

    name: str
    dtype: str  # safetensors name of the stored values
    scaled: bool

    def width(self, channels: int) -> int: ...

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]: ...

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None: ...


class Bf16:
    """The upper half of a float32, rounded to nearest even, stored as uint16 bit patterns."""

    name = "bf16"
    dtype = "BF16"
    scaled = False

    def width(self, channels: int) -> int:
        return channels

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, None]:
        bits = np.ascontiguousarray(tokens, dtype=np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded >> np.uint32(16)).astype(np.uint16), None

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None:
        assert scales is None
        bits = out.view(np.uint32)
        np.copyto(bits, values)  # several times as fast as one shift of mixed types
        bits <<= np.uint32(16)


class Int8:
    """Symmetric, one float16 scale a token: value = integer * scale, integer within +-127."""

    name = "int8"
    dtype = "I8"
    scaled = True

    def width(self, channels: int) -> int:
        return channels

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
        np.copyto(out, values)  # twice as fast as one multiplication of mixed types
        out *= scales[..., None].astype(np.float32)


class PcaInt8:
    """The first principal components of a token, less the mean, as int8 with a scale a token."""

    name = "pca128-int8"
    dtype = "I8"
    scaled = True

    def __init__(self, basis: Basis) -> None:
        assert len(basis.components) == PCA_COMPONENTS, basis.components.shape
        self.basis = basis
        self._int8 = Int8()

    def width(self, channels: int) -> int:
        assert channels == len(self.basis.mean), (channels, len(self.basis.mean))
        return PCA_COMPONENTS

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        channels = tokens.shape[-1]
        weights = (tokens - self.basis.mean).reshape(-1, channels) @ self.basis.components.T
        return self._int8.encode(weights.reshape(*tokens.shape[:-1], PCA_COMPONENTS))

    def decode(self, values: np.ndarray, scales: np.ndarray | None, out: np.ndarray) -> None:
        weights = np.empty(values.shape, np.float32)
        self._int8.decode(values, scales, out=weights)
        # one product of two matrices: a stack of small ones starts the threads of BLAS for each
        flat = out.reshape(-1, out.shape[-1])
        assert np.shares_memory(flat, out) or not out.size, "out is contiguous"
        np.matmul(weights.reshape(-1, PCA_COMPONENTS), self.basis.components, out=flat)
        flat += self.basis.mean


CODECS = (Bf16.name, Int8.name, PcaInt8.name)


def find_codec(name: str, basis: Basis | None = None) -> Codec:
    """The codec of that name; the one of principal components needs its basis. UserError for an unknown one."""
    if name == PcaInt8.name:
        assert basis is not None, "pca128-int8 comes with a basis"
        return PcaInt8(basis)
    if name not in CODECS:
        raise unknown_name("token codec", name, CODECS)
    return Bf16() if name == Bf16.name else Int8()


def bytes_per_token(name: str, channels: int) -> int:
    """Stored bytes of one token of `channels`, its float16 scale included. UserError for an unknown codec."""
    sizes = {Bf16.name: 2 * channels, Int8.name: channels + 2, PcaInt8.name: PCA_COMPONENTS + 2}
    if name not in sizes:
        raise unknown_name("token codec", name, sizes)
    return sizes[name]


def measure(codec: Codec, tokens: np.ndarray) -> "CodecError":
    """How far `tokens` float32 [n, C] are from their bf16 values after `codec`."""
    error, stored, reference = CodecError(), np.empty_like(tokens), np.empty_like(tokens)
    codec.decode(*codec.encode(tokens), out=stored)
    bf16 = Bf16()
    bf16.decode(*bf16.encode(tokens), out=reference)
    error.add(stored, reference)
    return error


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
