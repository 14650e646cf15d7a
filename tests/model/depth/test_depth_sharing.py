"""Views that are equal to the last byte are stored once, in a shard and across shards; parts are joined."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.depth.finish import STORE, finish_store
from model.depth.merge import main, merge_stores
from model.depth.shard import ABSENT, ELSEWHERE, open_shard
from model.depth.store import TokenStore
from model.depth.writer import ShardWriter, StoreLayout
from model.errors import UserError
from tests.model.depth.random_shards import layout

FACTS = {"teacher": {"weights_digest": "w"}, "preprocessing": {}, "fps": 10.0, "rate": 10.0, "stride": 1}
SPANS = [(0, 0, 4), (1, 1, 4), (2, 2, 4)]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(like: StoreLayout) -> list[Rows]:
    """Three episodes of four frames: within the first a view stands still, the third repeats views of both others."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 4, 3, like.tokens_per_view, like.channels)).astype(np.float32)
    digest = rng.integers(0, 256, (3, 4, 3, 32)).astype(np.uint8)
    mask = np.ones((3, 4, 3), bool)
    mask[1, 2, 0] = False
    for (episode, frame, view), source in {
        (0, 2, 1): (0, 1, 1), (2, 0, 0): (0, 0, 0), (2, 0, 1): (1, 3, 2), (2, 3, 2): (0, 1, 1), (2, 3, 1): (2, 2, 1),
    }.items():  # fmt: skip
        tokens[episode, frame, view], digest[episode, frame, view] = tokens[source], digest[source]
    return [(tokens[number], mask[number], digest[number]) for number in range(3)]


def write(store: Path, like: StoreLayout, rows: list[Rows], numbers: tuple[int, ...] = (0, 1, 2)) -> None:
    for number in numbers:
        tokens, mask, digest = rows[number]
        with ShardWriter(store=store, layout=like, first=number, last=number, rows=4) as writer:
            for part in (slice(0, 2), slice(2, 4)):
                frames = np.arange(4)[part]
                writer.add(np.full(2, number), frames, tokens[part], mask[part], digest[part])
            writer.finish()


def stored(store: Path) -> list[int]:
    return [len(open_shard(path).tensors["tokens"]) for path in sorted((store / "shards").iterdir())]


def check(store: Path, rows: list[Rows]) -> None:
    tokens, mask = TokenStore.open(store).read(np.repeat([2, 0, 1], 4), np.tile(np.arange(4), 3))
    for place, number in enumerate((2, 0, 1)):
        part = slice(4 * place, 4 * place + 4)
        assert np.array_equal(mask[part], rows[number][1])
        wanted = np.where(mask[part][:, :, None, None], rows[number][0], 0)
        assert np.linalg.norm(tokens[part] - wanted) < 0.01 * np.linalg.norm(wanted)


@pytest.mark.parametrize("codec", ["int8", "bf16"])
def test_equal_views_are_stored_once_and_read_everywhere(tmp_path: Path, codec: str) -> None:
    like = layout(codec)
    rows = draw(like)
    write(tmp_path, like, rows)
    assert stored(tmp_path) == [11, 11, 11], "once in each shard"
    content = finish_store(tmp_path, like, SPANS, FACTS)
    assert stored(tmp_path) == [11, 11, 8], "and once in the store: the first that has it keeps it"
    assert (content["views_stored"], content["views_shared"], content["views_without_depth"]) == (30, 5, 1)
    slots = open_shard(tmp_path / "shards/000002-000002.safetensors").tensors["slot"]
    assert (slots == ELSEWHERE).sum() == 3 and (slots == ABSENT).sum() == 0
    check(tmp_path, rows)


def test_statistics_count_a_shared_view_as_often_as_it_is_seen(tmp_path: Path) -> None:
    like = layout()
    rows = draw(like)
    write(tmp_path, like, rows)
    finish_store(tmp_path, like, SPANS, FACTS)
    flat = np.concatenate([tokens[mask] for tokens, mask, _ in rows]).reshape(-1, like.channels).astype(np.float64)
    np.testing.assert_allclose(TokenStore.open(tmp_path).channel_mean, flat.mean(0), rtol=1e-5, atol=1e-6)


def test_sharing_again_changes_nothing(tmp_path: Path) -> None:
    """An attempt that was killed while it shared views is repeated over shards that are shared already."""
    like = layout()
    write(tmp_path, like, draw(like))
    finish_store(tmp_path, like, SPANS, FACTS)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    finish_store(tmp_path, like, SPANS, FACTS)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_view_that_no_shard_holds_any_more_is_named(tmp_path: Path) -> None:
    like = layout()
    write(tmp_path, like, draw(like))
    finish_store(tmp_path, like, SPANS, FACTS)
    facts = json.loads((tmp_path / STORE).read_text())
    facts["shards"] = facts["shards"][1:]
    (tmp_path / STORE).write_text(json.dumps(facts))
    with pytest.raises(UserError, match="refers to a view of episode 2 that no other shard holds any more"):
        TokenStore.open(tmp_path)


def parts(root: Path, like: StoreLayout, rows: list[Rows]) -> list[Path]:
    found = []
    for index, numbers in enumerate(((0,), (1, 2))):
        write(root / str(index), like, rows, numbers)
        part = {"part": {"index": index, "count": 2}}
        finish_store(root / str(index), like, [SPANS[number] for number in numbers], FACTS | part)
        found.append(root / str(index))
    return found


def test_parts_are_joined_into_the_store_of_one_run(tmp_path: Path) -> None:
    like = layout()
    rows = draw(like)
    write(tmp_path / "whole", like, rows)
    finish_store(tmp_path / "whole", like, SPANS, FACTS)
    merge_stores(tmp_path / "joined", parts(tmp_path, like, rows)[::-1])
    check(tmp_path / "joined", rows)
    for path in sorted((tmp_path / "whole").rglob("*")):
        if path.is_file():
            assert (tmp_path / "joined" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_parts_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    like = layout()
    rows = draw(like)
    first, second = parts(tmp_path, like, rows)
    write(tmp_path / "bf16", layout("bf16"), rows, (1, 2))
    finish_store(tmp_path / "bf16", layout("bf16"), SPANS[1:], FACTS)
    with pytest.raises(UserError, match="bf16 and .*0 differ in codec"):
        merge_stores(tmp_path / "a", [first, tmp_path / "bf16"])
    with pytest.raises(UserError, match="have the same episodes: give each part once"):
        merge_stores(tmp_path / "b", [first, second, second])
    with pytest.raises(UserError, match=r"the parts are \[0\] of \[2\]: part 1 is missing"):
        merge_stores(tmp_path / "c", [first])
    assert main([str(first), str(second)]) == 2
    assert "is not empty: give a new folder" in capsys.readouterr().err
