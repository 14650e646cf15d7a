"""The instruction: token embeddings as they are, without scaling or chat template (SPEC_VLA section 1.2)."""

from collections.abc import Mapping

from torch import Tensor, nn

from model.config import TextConfig
from model.vla.inputs import Inputs
from model.vla.layout import Span
from model.vla.modalities.base import Modality


class Language(Modality):
    def __init__(self, config: TextConfig):
        super().__init__()
        self.max_length = config.max_length
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)

    def spans(self) -> tuple[Span, ...]:
        return (Span(name="instruction", length=self.max_length),)

    def embed(self, inputs: Inputs, earlier: Mapping[str, Tensor]) -> Tensor:
        return self.embed_tokens(inputs.tokens)

    def valid(self, inputs: Inputs) -> Tensor:
        return inputs.token_mask
