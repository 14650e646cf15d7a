"""What a modality of the prefix is: spans of tokens, how they are made, and the loss that trains them, if any.

A new sensor or kind of query is a file beside this one and a line in `modalities/__init__.py`; the transformer does
not know what its tokens are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from model.vla.inputs import Inputs, Targets
from model.vla.layout import Span


@dataclass(frozen=True)
class Loss:
    """A modality's own loss and its weight in the total."""

    value: Tensor
    weight: float


class Modality(nn.Module):
    """A part of the prefix. `reads_hidden`: its loss reads the prefix's final hidden states."""

    reads_hidden = False

    def spans(self) -> tuple[Span, ...]:
        """The tokens that it brings, in order; their lengths are fixed when the policy is built."""
        raise NotImplementedError

    def embed(self, inputs: Inputs, earlier: Mapping[str, Tensor]) -> Tensor:
        """Token embeddings [B, length, D]. `earlier` holds what the modalities before this one embedded, by name."""
        raise NotImplementedError

    def valid(self, inputs: Inputs) -> Tensor:
        """bool [B, length]: tokens that are there. Others are seen by nothing."""
        raise NotImplementedError

    def loss(self, hidden: Mapping[str, Tensor], inputs: Inputs, targets: Targets) -> Loss | None:
        """Its loss from the final hidden states by modality name, or None when it has none or no target is given."""
        return None
