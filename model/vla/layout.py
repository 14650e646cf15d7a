"""Where each modality lies in the prefix, and which prefix token sees which (SPEC_VLA sections 1.2, 1.5, 2.2).

A modality brings spans. Spans of the context (views, sensors, language) see each other; spans of queries see what
they name and are seen by themselves and the suffix only. The suffix is never visible from the prefix: with the
suffix's own order (state, then actions) that is the block-causal mask.

Shapes: B batch, L prefix length, T action steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CONTEXT = "context"  # what spans of the context are called together


@dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring tokens of the prefix that see the same: `sees` names spans, or the context as a whole."""

    name: str
    length: int
    sees: tuple[str, ...] = (CONTEXT,)
    context: bool = True


@dataclass(frozen=True)
class Rectangle:
    """Rows of a mask and the columns that they see: all of them, unless `whole` says that some are hidden."""

    rows: slice
    columns: tuple[slice, ...]
    whole: bool = True


class PrefixLayout:
    """The spans of all modalities, in order."""

    def __init__(self, modalities: Mapping[str, Sequence[Span]], *, causal: bool):
        self.causal = causal
        self.spans = tuple(span for spans in modalities.values() for span in spans)
        self.places: dict[str, slice] = {}  # of spans and of modalities
        start = 0
        for modality, spans in modalities.items():
            first = start
            for span in spans:
                assert span.name not in self.places, span.name
                self.places[span.name] = slice(start, start + span.length)
                start += span.length
            self.places[modality] = slice(first, start)
        self.length = start

    def visibility(self) -> Tensor:
        """bool [L, L]: what the spans see of each other, before absent views and padding are taken out."""
        visible = torch.zeros(self.length, self.length, dtype=torch.bool)
        for span in self.spans:
            for column in self._columns(span):
                visible[self.places[span.name], column] = True
        return visible.tril() if self.causal else visible

    def rectangles(self) -> tuple[Rectangle, ...]:
        """The same as rows and the column ranges that they see: what attention computes instead of the whole square.

        A causal prefix is one square with hidden columns.
        """
        if self.causal:
            return (square(self.length, whole=False),)
        rectangles: list[Rectangle] = []
        for span in self.spans:
            rows, columns = self.places[span.name], _merge(self._columns(span))
            if not span.length:
                continue
            if rectangles and rectangles[-1].columns == columns and rectangles[-1].rows.stop == rows.start:
                rows = slice(rectangles.pop().rows.start, rows.stop)
            rectangles.append(Rectangle(rows, columns))
        return tuple(rectangles)

    def mask(self, valid_BL: Tensor) -> Tensor:
        """bool [B, L, L]: the whole mask of the prefix."""
        visible = self.visibility().to(valid_BL.device)
        return visible & valid_BL[:, :, None] & valid_BL[:, None, :]

    def joint_mask(self, valid_BL: Tensor, horizon: int) -> Tensor:
        """bool [B, L + 1 + T, L + 1 + T]: prefix, state and actions together, as the released code has it."""
        total = self.length + 1 + horizon
        mask = torch.zeros(len(valid_BL), total, total, dtype=torch.bool, device=valid_BL.device)
        mask[:, : self.length, : self.length] = self.mask(valid_BL)
        mask[:, self.length :, : self.length] = valid_BL[:, None, :]
        mask[:, self.length :, self.length :] = suffix_visibility(1 + horizon).to(valid_BL.device)
        return mask

    def positions(self, valid_BL: Tensor, horizon: int) -> Tensor:
        """int64 [B, L + 1 + T]: the count of valid tokens before each; padding repeats the position before it."""
        suffix = valid_BL.new_ones(len(valid_BL), 1 + horizon)
        return torch.cat([valid_BL, suffix], dim=1).long().cumsum(1) - 1

    def _columns(self, span: Span) -> list[slice]:
        seen = [s for s in self.spans if s.name in span.sees or (CONTEXT in span.sees and s.context)]
        return [self.places[s.name] for s in seen if s.length]


def square(length: int, *, whole: bool = True) -> Rectangle:
    """All rows and all columns."""
    return Rectangle(slice(0, length), (slice(0, length),), whole)


def suffix_visibility(length: int) -> Tensor:
    """bool [S, S]: the state (token 0) sees itself, the actions see everything of the suffix."""
    visible = torch.ones(length, length, dtype=torch.bool)
    visible[0, 1:] = False
    return visible


def _merge(columns: Sequence[slice]) -> tuple[slice, ...]:
    merged: list[slice] = []
    for column in sorted(columns, key=lambda c: c.start):
        if merged and merged[-1].stop == column.start:
            column = slice(merged.pop().start, column.stop)
        merged.append(column)
    return tuple(merged)
