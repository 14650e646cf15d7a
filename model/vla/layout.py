"""Where each modality lies in the prefix, and which prefix token sees which (SPEC_VLA sections 1.2, 1.5, 2.2).

Prefix: [views | depth queries of each view | goal queries | language]. Images and language see each other; queries
see images only and are seen by the suffix only. The suffix is never visible from here: that is the block-causal mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class PrefixLayout:
    """Token spans of the prefix. Q and G are zero where a policy has no such queries."""

    views: int
    tokens_per_view: int
    depth_queries: int
    goal_queries: int
    text: int

    @classmethod
    def of(cls, config: PolicyConfig) -> "PrefixLayout":
        return cls(
            views=config.views,
            tokens_per_view=config.vision.tokens_per_view,
            depth_queries=config.depth.num_queries if config.depth else 0,
            goal_queries=config.goal.num_queries if config.goal else 0,
            text=config.text.max_length,
        )

    @property
    def images(self) -> slice:
        return slice(0, self.views * self.tokens_per_view)

    @property
    def depth(self) -> slice:
        return slice(self.images.stop, self.images.stop + self.views * self.depth_queries)

    @property
    def goal(self) -> slice:
        return slice(self.depth.stop, self.depth.stop + self.goal_queries)

    @property
    def length(self) -> int:
        return self.goal.stop + self.text

    def valid(self, image_mask_BV: Tensor, token_mask_BK: Tensor) -> Tensor:
        """[B, L]: tokens of absent views, their queries and padded text are not valid."""
        return torch.cat(
            [
                image_mask_BV.repeat_interleave(self.tokens_per_view, dim=1),
                image_mask_BV.repeat_interleave(self.depth_queries, dim=1),
                torch.ones_like(image_mask_BV[:, :1]).expand(-1, self.goal_queries),
                token_mask_BK,
            ],
            dim=1,
        )

    def visibility(self) -> Tensor:
        """[L, L]: what the modalities may see of each other, before absent views and padding are taken out."""
        visible = torch.ones(self.length, self.length, dtype=torch.bool)
        queries = slice(self.depth.start, self.goal.stop)
        visible[:, queries] = False
        visible[queries, :] = False
        for view in range(self.views):
            own_queries = slice(
                self.depth.start + view * self.depth_queries, self.depth.start + (view + 1) * self.depth_queries
            )
            visible[own_queries, view * self.tokens_per_view : (view + 1) * self.tokens_per_view] = True
            visible[own_queries, own_queries] = True
        visible[self.goal, self.images] = True
        visible[self.goal, self.goal] = True
        return visible

    def mask(self, valid_BL: Tensor, visibility_LL: Tensor) -> Tensor:
        """[B, L, L] boolean attention mask of the prefix."""
        return visibility_LL & valid_BL[:, :, None] & valid_BL[:, None, :]
