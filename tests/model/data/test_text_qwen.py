"""A tokenizer of Qwen's kind: no <bos> and no <pad>, byte-level pieces, <|endoftext|> to pad with."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model.data.text import InstructionTokenizer
from model.errors import UserError


def save_tokenizer(path: Path, special_tokens: list[str]) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["lift the cube"], trainer)
    tokenizer.save(str(path))
    return path


def test_bos_is_text_and_padding_is_qwens(tmp_path: Path) -> None:
    path = save_tokenizer(tmp_path / "tokenizer.json", ["<|endoftext|>"])
    raw = Tokenizer.from_file(str(path))
    ids, mask = InstructionTokenizer.load(path).encode([" lift the cube "], 24)
    assert raw.decode(ids[0][mask[0]].tolist()) == "<bos>lift the cube\n"
    assert set(ids[0][~mask[0]].tolist()) == {raw.token_to_id("<|endoftext|>")}


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither the token <pad> nor <|endoftext|>"):
        InstructionTokenizer.load(save_tokenizer(tmp_path / "tokenizer.json", []))
