"""Codecs and principal components: what comes back, and the error that is said of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model.depth.codec import CODECS, Bf16, CodecError, Int8, PcaInt8, bytes_per_token, find_codec, measure
from model.depth.pca import Basis, components_needed, fit_basis
from model.errors import UserError


def low_rank(count: int, channels: int, rank: int, seed: int = 0) -> np.ndarray:
    """Tokens [count, channels] of `rank` components that fall off, about a mean."""
    space = np.random.default_rng(7)
    directions = np.linalg.qr(space.normal(size=(channels, rank)))[0].T
    weights = np.random.default_rng(seed).normal(size=(count, rank)) * np.linspace(3, 1, rank)
    return (weights @ directions + space.normal(size=channels)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.float32, (3, 16), elements=st.floats(-1e6, 1e6, width=32)))
def test_int8_is_within_half_a_step_and_never_overflows(tokens: np.ndarray) -> None:
    values, scales = Int8().encode(tokens)
    decoded = np.empty_like(tokens)
    Int8().decode(values, scales, out=decoded)
    assert np.abs(values.astype(int)).max() <= 127
    step = scales.astype(np.float32)[:, None]
    assert (np.abs(decoded - tokens) <= 0.5001 * step + 1e-30).all()


def test_bf16_rounds_as_torch() -> None:
    normal = np.random.default_rng(0).normal(size=(50, 64))
    tokens = (normal * 10.0 ** np.linspace(-20, 30, 64)).astype(np.float32)
    values, _ = Bf16().encode(tokens)
    decoded = np.empty_like(tokens)
    Bf16().decode(values, None, out=decoded)
    assert np.array_equal(decoded, torch.from_numpy(tokens).bfloat16().float().numpy())


def test_components_bring_back_tokens_of_their_space() -> None:
    codec = PcaInt8(fit_basis(low_rank(2000, 160, 100), 128))
    error = measure(codec, low_rank(300, 160, 100, seed=1)).summary()
    assert error["relative_l2"] < 0.02 and error["cosine"] > 0.9998
    assert codec.width(160) == 128


def test_what_lies_outside_of_the_basis_is_lost_and_said() -> None:
    codec = PcaInt8(fit_basis(low_rank(2000, 160, 100), 128))
    other = np.random.default_rng(3).normal(size=(300, 160)).astype(np.float32)
    error = measure(codec, other).summary()
    assert 0.4 < error["relative_l2"] < 0.8 and error["cosine"] < 0.95


def test_a_basis_is_the_same_for_the_same_tokens_and_another_for_others() -> None:
    first, again = (fit_basis(low_rank(500, 160, 140), 128) for _ in range(2))
    assert first.digest == again.digest and len(first.digest) == 64
    assert fit_basis(low_rank(500, 160, 140, seed=1), 128).digest != first.digest
    assert np.allclose(first.components @ first.components.T, np.eye(128), atol=1e-5)
    assert (np.diff(first.variance) <= 1e-9).all() and 0.95 < first.explained < 1


def test_the_needed_components_are_the_fewest_that_reach_the_cosine() -> None:
    tokens, measured = low_rank(2000, 64, 40), low_rank(200, 64, 40, seed=1)
    full = fit_basis(tokens, 64)
    needed = components_needed(full, measured, 0.99)

    def cosine(count: int) -> float:
        part = full.components[:count]
        near = (measured - full.mean) @ part.T @ part + full.mean
        return float(
            ((near * measured).sum(1) / np.linalg.norm(near, axis=1) / np.linalg.norm(measured, axis=1)).mean()
        )

    assert 1 < needed < 40 and cosine(needed) >= 0.99 > cosine(needed - 1)


def test_too_few_channels_or_tokens_for_a_basis_are_named() -> None:
    with pytest.raises(UserError, match="have 96 channels, fewer than the 128 components of pca128-int8"):
        fit_basis(np.zeros((500, 96), np.float32), 128)
    with pytest.raises(UserError, match="300 tokens are too few to fit a basis of 160 channels"):
        fit_basis(np.zeros((300, 160), np.float32), 128)


def test_bytes_of_a_token_are_those_that_are_stored() -> None:
    basis: Basis = fit_basis(low_rank(500, 160, 140), 128)
    tokens = low_rank(10, 160, 140)
    for name in CODECS:
        values, scales = find_codec(name, basis).encode(tokens)
        stored = values.nbytes + (0 if scales is None else scales.nbytes)
        assert bytes_per_token(name, 160) * 10 == stored
    with pytest.raises(UserError, match="unknown token codec 'int4'"):
        bytes_per_token("int4", 160)


def test_errors_of_parts_add_up() -> None:
    tokens = low_rank(100, 160, 140)
    whole = measure(Int8(), tokens)
    parts = CodecError()
    for part in np.split(tokens, 4):
        parts.merge(measure(Int8(), part))
    assert parts.summary() == pytest.approx(whole.summary(), rel=1e-5)
