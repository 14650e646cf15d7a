"""Codecs and the token store: what is read is what was written, whole or not at all."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file

from model.depth.codec import CODECS, Bf16, CodecError, find_codec
from model.depth.store import STORE, TokenStore, open_shard
from model.depth.writer import ShardWriter, StoreLayout, finish_store, finished_shard, write_unavailable
from model.errors import UserError
from tests.model.depth.random_shards import CAMERAS, layout, rows, write_shard

FACTS = {"teacher": {"weights_digest": "w"}, "preprocessing": {}, "rate": 10.0}


def write_store(store: Path, like: StoreLayout, frames: int = 6) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    written = {first: write_shard(store, like, first, frames) for first in (0, 2)}
    finish_store(store, like, [(first, first + 1, 2 * frames) for first in written], FACTS)
    return written


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.float32, (3, 16), elements=st.floats(-1e6, 1e6, width=32)))
def test_int8_is_within_half_a_step_and_never_overflows(tokens: np.ndarray) -> None:
    values, scales = CODECS["int8"]().encode(tokens)
    decoded = np.empty_like(tokens)
    CODECS["int8"]().decode(values, scales, out=decoded)
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


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_reads_back_random_frames_of_several_shards(tmp_path: Path, codec: str) -> None:
    like = layout(codec)
    written = write_store(tmp_path, like)
    store = TokenStore.open(tmp_path)
    assert store.available and len(store) == 24 and store.cameras == CAMERAS and store.rate == 10.0
    episode, frame = np.array([3, 0, 1, 2, 0, 9]), np.array([10, 0, 4, 2, 1, 0])
    tokens, mask = store.read(episode, frame)
    assert tokens.shape == (6, 3, 4, 48) and tokens.dtype == np.float32 and mask.dtype == bool
    for item in range(4):
        source, valid = written[episode[item] // 2 * 2]
        row = (episode[item] % 2) * 6 + frame[item] // 2
        assert np.array_equal(mask[item], valid[row])
        wanted = np.where(valid[row][:, None, None], source[row], 0)
        assert np.linalg.norm(tokens[item] - wanted) < 0.01 * np.linalg.norm(wanted)
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
        reference = torch.from_numpy(source).bfloat16().float().numpy()[mask].reshape(-1, 48)
        stored = read[mask].reshape(-1, 48)
        error = np.linalg.norm(stored - reference) / np.linalg.norm(reference)
        cosine = (stored * reference).sum(1) / np.linalg.norm(stored, axis=1) / np.linalg.norm(reference, axis=1)
        figures = entry["error_against_bf16"]
        assert figures["relative_l2"] == pytest.approx(error, rel=1e-4) and 0.002 < error < 0.01
        assert figures["cosine"] == pytest.approx(cosine.mean(), abs=1e-6)
        assert figures["cosine_min"] == pytest.approx(cosine.min(), abs=1e-6)
    assert layout("bf16") and CodecError().summary() == {"relative_l2": 0.0, "cosine": 1.0, "cosine_min": 1.0}


def test_bf16_shards_have_no_error(tmp_path: Path) -> None:
    write_store(tmp_path, layout("bf16"))
    assert TokenStore.open(tmp_path).facts["error_against_bf16"]["relative_l2"] == 0.0


def test_statistics_are_those_of_the_tokens(tmp_path: Path) -> None:
    written = write_store(tmp_path, layout("int8"))
    tokens = np.concatenate([source for source, _ in written.values()])
    mask = np.concatenate([valid for _, valid in written.values()])
    store = TokenStore.open(tmp_path)
    flat = tokens[mask].reshape(-1, 48).astype(np.float64)
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


WRITE_FOREVER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from random_shards import layout, write_shard
print("ready", flush=True)
for first in range(0, 100000, 2):
    write_shard(Path({store!r}), layout(tokens=16), first, 20)
"""


def test_a_kill_at_any_moment_leaves_only_whole_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    like, seen = layout(tokens=16), 0
    for attempt in range(4):
        store = tmp_path / str(attempt)
        tests = Path(__file__).parent
        code = WRITE_FOREVER.format(tests=str(tests), root=str(tests.parents[2]), store=str(store))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            while not any((store / "shards").glob("*")):
                assert process.poll() is None
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.2)))
            process.send_signal(signal.SIGKILL)
        for path in sorted((store / "shards").iterdir()):
            shard = open_shard(path)
            first = shard.facts["first"]
            assert finished_shard(store, like, first, first + 1, 40) is not None
            tokens, mask, digest = rows(40, like, first)
            assert np.array_equal(shard.tensors["mask"], mask) and np.array_equal(shard.tensors["digest"], digest)
            decoded = np.empty_like(tokens)
            find_codec("int8").decode(shard.tensors["tokens"], shard.tensors["scales"], out=decoded)
            assert np.abs(decoded - tokens)[mask].max() < 0.1
            seen += 1
    assert seen >= 4


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


def test_an_unavailable_store_says_why(tmp_path: Path) -> None:
    write_unavailable(tmp_path, "the dataset has no depth")
    store = TokenStore.open(tmp_path, weights_digest="any")
    assert not store.available and store.reason == "the dataset has no depth"


def test_tokens_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    like = layout()
    tokens, mask, digest = rows(2, like, 0)
    mask[:] = True
    tokens[1, 2, 3, 4] = np.nan
    with pytest.raises(UserError, match="episode 7 frame 1 are not finite"):
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
