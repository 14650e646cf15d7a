"""Instructions to tokens."""

from pathlib import Path

import numpy as np
import pytest

from model.data.text import InstructionTokenizer
from model.errors import UserError

SENTENCES = ["lift the cube with the right arm", "lift the cube with the left arm"]


@pytest.fixture
def tokenizer() -> InstructionTokenizer:
    return InstructionTokenizer.train(SENTENCES, 512)


def test_the_order_of_sentences_does_not_matter(tokenizer: InstructionTokenizer, tmp_path: Path) -> None:
    InstructionTokenizer.train(SENTENCES[::-1] + SENTENCES, 512).save(tmp_path / "again.json")
    tokenizer.save(tmp_path / "first.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "first.json").read_bytes()


def test_saving_and_loading_keeps_the_ids(tokenizer: InstructionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "t.json")
    loaded = InstructionTokenizer.load(tmp_path / "t.json")
    for first, second in zip(tokenizer.encode(SENTENCES, 16), loaded.encode(SENTENCES, 16), strict=True):
        assert np.array_equal(first, second)


def test_different_sentences_have_different_ids_and_padding_is_masked(tokenizer: InstructionTokenizer) -> None:
    ids, mask = tokenizer.encode([*SENTENCES, "Grüße!"], 64)
    assert not np.array_equal(ids[0], ids[1])
    assert mask.sum(1).tolist() == [tokenizer.length(s) for s in (*SENTENCES, "Grüße!")]
    assert (ids[~mask] == 0).all() and (ids[mask] != 1).all()  # text never seen in training encodes without <unk>


def test_long_prompts_are_cut_and_empty_ones_refused(tokenizer: InstructionTokenizer) -> None:
    ids, mask = tokenizer.encode([" ".join(SENTENCES)], 5)
    assert ids.shape == (1, 5) and mask.all()
    with pytest.raises(UserError, match="instruction is empty"):
        tokenizer.encode(["  "], 5)
