"""The token store: what is read is what was written."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from model.depth.codec import CODECS, CodecError
from model.depth.finish import BASIS, STORE, finish_store, write_unavailable
from model.depth.pca import read_basis
from model.depth.store import TokenStore
from model.depth.writer import ShardWriter, StoreLayout, finished_shard
from model.errors import UserError
from tests.model.depth.random_shards import CAMERAS, layout, rows, write_shard

FACTS = {"teacher": {"weights_digest": "w"}, "preprocessing": {}, "rate": 10.0}


def write_store(store: Path, like: StoreLayout, frames: int = 6) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    written = {first: write_shard(store, like, first, frames) for first in (0, 2)}
    if like.basis is not None:
        like.basis.save(store / BASIS, {"frames": 1})
    finish_store(store, like, [(first, first + 1, 2 * frames) for first in written], FACTS)
    return written


@pytest.mark.parametrize("codec", CODECS)
def test_reads_back_random_frames_of_several_shards(tmp_path: Path, codec: str) -> None:
    like = layout(codec)
    written = write_store(tmp_path, like)
    store = TokenStore.open(tmp_path)
    assert store.available and len(store) == 24 and store.cameras == CAMERAS and store.rate == 10.0
    episode, frame = np.array([3, 0, 1, 2, 0, 9]), np.array([10, 0, 4, 2, 1, 0])
    tokens, mask = store.read(episode, frame)
    assert tokens.shape == (6, 3, 4, 136) and tokens.dtype == np.float32 and mask.dtype == bool
    for item in range(4):
        source, valid = written[episode[item] // 2 * 2]
        row = (episode[item] % 2) * 6 + frame[item] // 2
        assert np.array_equal(mask[item], valid[row])
        wanted = np.where(valid[row][:, None, None], source[row], 0)
        # random tokens have no principal components: eight of 136 are lost
        far = 0.3 if codec == "pca128-int8" else 0.01
        assert np.linalg.norm(tokens[item] - wanted) < far * np.linalg.norm(wanted)
    assert not mask[4:].any() and not tokens[4:].any(), "frames that were not extracted"
    assert store.has(episode, frame).tolist() == [True, True, True, True, False, False]
    assert not tokens[~mask].any()


def test_the_stored_error_is_the_measured_one(tmp_path: Path) -> None:
    written = write_store(tmp_path, layout("int8"))
    store = TokenStore.open(tmp_path)
    for entry in store.facts["shards"]:
        source, mask = written[entry["first"]]
        frames = len(source) // 2
        read, _ = store.read(np.repeat([entry["first"], entry["last"]], frames), np.tile(2 * np.arange(frames), 2))
        reference = torch.from_numpy(source).bfloat16().float().numpy()[mask].reshape(-1, 136)
        stored = read[mask].reshape(-1, 136)
        error = np.linalg.norm(stored - reference) / np.linalg.norm(reference)
        cosine = (stored * reference).sum(1) / np.linalg.norm(stored, axis=1) / np.linalg.norm(reference, axis=1)
        figures = entry["error_against_bf16"]
        assert figures["relative_l2"] == pytest.approx(error, rel=1e-4) and 0.002 < error < 0.01
        assert figures["cosine"] == pytest.approx(cosine.mean(), abs=1e-6)
        assert figures["cosine_min"] == pytest.approx(cosine.min(), abs=1e-6)
    assert CodecError().summary() == {"relative_l2": 0.0, "cosine": 1.0, "cosine_min": 1.0}


def test_bf16_shards_have_no_error(tmp_path: Path) -> None:
    write_store(tmp_path, layout("bf16"))
    assert TokenStore.open(tmp_path).facts["error_against_bf16"]["relative_l2"] == 0.0


def test_statistics_are_those_of_the_tokens(tmp_path: Path) -> None:
    written = write_store(tmp_path, layout("int8"))
    tokens = np.concatenate([source for source, _ in written.values()])
    mask = np.concatenate([valid for _, valid in written.values()])
    store = TokenStore.open(tmp_path)
    flat = tokens[mask].reshape(-1, 136).astype(np.float64)
    np.testing.assert_allclose(store.channel_mean, flat.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(store.channel_std, flat.std(0), rtol=1e-5)
    for view in range(3):
        seen = tokens[mask[:, view], view].astype(np.float64)
        np.testing.assert_allclose(store.place_mean[view], seen.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(store.place_std[view], seen.std(0), rtol=1e-4)


def test_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    like = layout()
    for name, batch in (("a", 5), ("b", 3)):
        write_shard(tmp_path / name, like, 0, 6, batch)
    a, b = (load_file(tmp_path / name / "shards/000000-000001.safetensors") for name in ("a", "b"))
    assert all(np.array_equal(a[name], b[name]) for name in a if name not in ("mean", "squares"))
    write_shard(tmp_path / "c", like, 0, 6, 5)
    first, again = ((tmp_path / n / "shards/000000-000001.safetensors").read_bytes() for n in ("a", "c"))
    assert first == again


def test_what_an_earlier_attempt_left_is_swept(tmp_path: Path) -> None:
    like = layout()
    write_shard(tmp_path, like, 8, 3)
    (tmp_path / ".scratch").mkdir(exist_ok=True)
    (tmp_path / ".scratch/000010-000011.safetensors.partial").write_bytes(b"half")
    write_store(tmp_path, like)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    shards = [f"shards/{name}.safetensors" for name in ("000000-000001", "000002-000003")]
    assert names == [*shards, "statistics.safetensors", "store.json"]


def test_a_shard_of_another_teacher_or_codec_is_not_taken_for_finished(tmp_path: Path) -> None:
    write_shard(tmp_path, layout("int8"), 0, 6)
    assert finished_shard(tmp_path, layout("int8"), 0, 1, 12) is not None
    assert finished_shard(tmp_path, layout("bf16"), 0, 1, 12) is None
    assert finished_shard(tmp_path, layout("int8"), 0, 1, 11) is None
    assert finished_shard(tmp_path, layout("int8"), 2, 3, 12) is None


def test_damage_and_foreign_stores_are_named(tmp_path: Path) -> None:
    write_store(tmp_path, layout())
    with pytest.raises(UserError, match="holds tokens of the weights w, other is asked for"):
        TokenStore.open(tmp_path, weights_digest="other")
    shard = tmp_path / "shards/000002-000003.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"000002-000003.safetensors is damaged: it holds \d+ bytes"):
        TokenStore.open(tmp_path)
    shard.write_bytes(b"\0" * 64)
    with pytest.raises(UserError, match="is damaged: its header cannot be read"):
        TokenStore.open(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match="000002-000003.safetensors is missing"):
        TokenStore.open(tmp_path)
    shard.write_bytes(content)
    facts = json.loads((tmp_path / STORE).read_text())
    (tmp_path / STORE).write_text(json.dumps(facts | {"preprocessing_digest": "other"}))
    with pytest.raises(UserError, match="was made with the preprocessing_digest p, store.json names other"):
        TokenStore.open(tmp_path)
    (tmp_path / STORE).write_text(json.dumps(facts | {"schema_version": 99}))
    with pytest.raises(UserError, match="schema_version 99"):
        TokenStore.open(tmp_path)
    with pytest.raises(UserError, match="is not a token store"):
        TokenStore.open(tmp_path / "shards")


def test_another_number_of_tokens_than_the_policy_needs_is_named(tmp_path: Path) -> None:
    write_store(tmp_path, layout(tokens=4))
    with pytest.raises(UserError, match="holds 4 tokens a view, 256 are needed: .*num_tokens=256"):
        TokenStore.open(tmp_path, tokens_per_view=256)


def test_a_basis_that_is_missing_or_another_is_named(tmp_path: Path) -> None:
    like = layout("pca128-int8")
    write_store(tmp_path, like)
    basis, fitted_on = read_basis(tmp_path / BASIS)
    assert basis.digest == like.basis.digest and fitted_on == {"frames": 1}
    layout("pca128-int8", channels=144).basis.save(tmp_path / BASIS, {})
    with pytest.raises(UserError, match="basis.safetensors has the digest .*, store.json names"):
        TokenStore.open(tmp_path)
    (tmp_path / BASIS).write_bytes(b"no basis")
    with pytest.raises(UserError, match="holds no basis of tokens"):
        TokenStore.open(tmp_path)
    (tmp_path / BASIS).unlink()
    with pytest.raises(UserError, match="basis.safetensors is missing: .*cannot be read without it"):
        TokenStore.open(tmp_path)


def test_a_store_of_version_1_is_read(tmp_path: Path) -> None:
    """As issue 2 wrote it: tokens [rows, V, N, C] with a mask, every view stored."""
    like, rng = layout(), np.random.default_rng(0)
    values, mask = rng.integers(-127, 128, (2, 3, 4, 136)).astype(np.int8), np.array([[1, 0, 1], [1, 1, 1]], bool)
    scales = rng.uniform(0.01, 0.1, (2, 3, 4)).astype(np.float16)
    facts = {"schema_version": 1, "first": 0, "last": 1, "rows": 2, **like.facts()}
    del facts["basis_digest"]
    tensors = {"tokens": values, "scales": scales, "mask": mask, "episode": np.array([0, 1]), "frame": np.array([0, 7])}
    (tmp_path / "shards").mkdir()
    save_file(tensors, tmp_path / "shards/000000-000001.safetensors", metadata={"shard": json.dumps(facts)})
    entry = {"file": "000000-000001.safetensors", "first": 0, "last": 1, "rows": 2}
    content = {"schema_version": 1, "available": True, **FACTS, **facts, "shards": [entry]}
    (tmp_path / STORE).write_text(json.dumps(content | {"schema_version": 1}))
    tokens, seen = TokenStore.open(tmp_path).read(np.array([1, 0]), np.array([7, 0]))
    assert np.array_equal(seen, mask[::-1])
    wanted = values.astype(np.float32) * scales[..., None].astype(np.float32)
    assert np.array_equal(tokens, np.where(mask, 1, 0)[::-1, :, None, None] * wanted[::-1])


def test_an_unavailable_store_says_why(tmp_path: Path) -> None:
    write_unavailable(tmp_path, "the dataset has no depth")
    store = TokenStore.open(tmp_path, weights_digest="any")
    assert not store.available and store.reason == "the dataset has no depth"


def test_tokens_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    like = layout()
    tokens, mask, digest = rows(2, like, 0)
    mask[:] = True
    tokens[1, 2, 3, 4] = np.nan
    with pytest.raises(UserError, match="episode 7 frame 1, camera 'cam_right_wrist' are not finite"):
        with ShardWriter(store=tmp_path, layout=like, first=7, last=7, rows=2) as writer:
            writer.add(np.array([7, 7]), np.array([0, 1]), tokens, mask, digest)
    assert not list(tmp_path.rglob("*.partial")) and not (tmp_path / "shards").exists()


def test_two_thousand_random_three_view_reads_a_second(tmp_path: Path) -> None:
    """At the demo's size (64 tokens of 192 channels, int8), counted in CPU time of one thread: others may be busy."""
    write_store(tmp_path, layout("int8", tokens=64, channels=192), frames=40)
    store = TokenStore.open(tmp_path)
    rng = np.random.default_rng(0)
    best = 0.0
    for _ in range(3):
        episode, frame = rng.integers(0, 4, 256), 2 * rng.integers(0, 40, 256)
        began = time.process_time()
        for start in range(0, 256, 32):
            _, mask = store.read(episode[start : start + 32], frame[start : start + 32])
        best = max(best, 256 / (time.process_time() - began))
    assert mask.any() and best >= 2000, f"{best:.0f} reads a second"
