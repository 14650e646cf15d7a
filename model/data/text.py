"""Instructions to token ids. The demo's tokenizer is trained on the dataset's own sentences and lies in the bundle.

Large presets bring Qwen's tokenizer in the same `tokenizer.json` format. A prompt is "<bos>", the task and a line feed,
padded on the right (SPEC_VLA section 1.10). Qwen has no such token, so there "<bos>" is ordinary text, as the released
policy has seen it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError

PAD, UNKNOWN, BEGIN = "<pad>", "<unk>", "<bos>"
QWEN_PAD = "<|endoftext|>"


class InstructionTokenizer:
    """Wraps one `tokenizers.Tokenizer`; immutable once made."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._begin = tokenizer.token_to_id(BEGIN)
        pads = [tokenizer.token_to_id(name) for name in (PAD, QWEN_PAD)]
        if pads == [None, None]:
            raise UserError(
                f"the tokenizer has neither the token {PAD} nor {QWEN_PAD} to pad with: give a Qwen tokenizer.json."
            )
        self._pad = next(pad for pad in pads if pad is not None)

    @classmethod
    def train(cls, sentences: Iterable[str], vocab_size: int) -> "InstructionTokenizer":
        """Byte-pair tokenizer over `sentences`; any other text still encodes, as bytes. The order does not matter."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, UNKNOWN, BEGIN],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(sentences)), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "InstructionTokenizer":
        """The tokenizer of a `tokenizer.json`. UserError when it is none."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower type
            raise UserError(f"{path} cannot be read as a tokenizer ({error}): give a Qwen or own one") from error
        return cls(tokenizer)

    def save(self, path: Path) -> None:
        self._tokenizer.save(str(path))

    def length(self, sentence: str) -> int:
        """Tokens that the prompt of a sentence takes."""
        return len(self._ids(sentence))

    def encode(self, sentences: Sequence[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [B, max_length] and mask bool [B, max_length]; longer prompts are cut, as in the released code."""
        ids = np.full((len(sentences), max_length), self._pad, dtype=np.int64)
        mask = np.zeros((len(sentences), max_length), dtype=bool)
        for row, sentence in enumerate(sentences):
            if not sentence.strip():
                raise UserError("the instruction is empty: say what the robot is to do, as in the training data.")
            tokens = self._ids(sentence)[:max_length]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask

    def _ids(self, sentence: str) -> list[int]:
        prompt = sentence.strip() + "\n"
        if self._begin is None:
            return self._tokenizer.encode(BEGIN + prompt).ids
        return [self._begin, *self._tokenizer.encode(prompt).ids]
