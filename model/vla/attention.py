"""Attention of the policy: explicit matmul and softmax, grouped keys, masks by replacement (SPEC_VLA section 1.3).

Explicit attention is the fast path on CPUs: SDPA's backward took a quarter of a training step there (DESIGN section 4).
The suffix attends to two blocks of keys, the prefix's and its own, without copying the prefix's keys for each draw.

Shapes: B batch, N noise draws, L prefix length, S suffix length, H query heads, G key heads, R = H / G, C head size.
"""

import torch
from torch import Tensor

MASKED = -2.3819763e38  # the released constant: masked scores are set to it, not added


def prefix_attention(q_BLHC: Tensor, k_BLGC: Tensor, v_BLGC: Tensor, mask_BLL: Tensor) -> Tensor:
    """Self-attention of the prefix under a boolean mask (True = visible). Returns [B, L, H * C]."""
    B, L, H, C = q_BLHC.shape
    G = k_BLGC.shape[2]
    q = q_BLHC.view(B, L, G, H // G, C).permute(0, 2, 3, 1, 4).reshape(B, G, -1, C)
    k, v = k_BLGC.transpose(1, 2), v_BLGC.transpose(1, 2)
    scores = (q @ k.transpose(-1, -2)).view(B, G, H // G, L, L).float() * C**-0.5
    weights = scores.masked_fill(~mask_BLL[:, None, None], MASKED).softmax(-1).to(v.dtype)
    out = weights.view(B, G, -1, L) @ v
    return out.view(B, G, H // G, L, C).permute(0, 3, 1, 2, 4).reshape(B, L, H * C)


def suffix_attention(
    q_BNSHC: Tensor, k_BNSGC: Tensor, v_BNSGC: Tensor, prefix_k_BLGC: Tensor, prefix_v_BLGC: Tensor, valid_BL: Tensor
) -> Tensor:
    """Attention of N suffixes over the shared prefix and themselves. Returns [B, N, S, H * C].

    Token 0 of a suffix is the state: it sees the prefix and itself. The actions see everything of their own draw.
    """
    B, N, S, H, C = q_BNSHC.shape
    G, L = k_BNSGC.shape[3], prefix_k_BLGC.shape[1]
    R = H // G
    q = (q_BNSHC * C**-0.5).view(B, N, S, G, R, C).permute(0, 3, 1, 4, 2, 5)  # B G N R S C
    own_k = k_BNSGC.permute(0, 3, 1, 2, 4)  # B G N S C
    own_v = v_BNSGC.permute(0, 3, 1, 2, 4)
    prefix_k, prefix_v = prefix_k_BLGC.transpose(1, 2), prefix_v_BLGC.transpose(1, 2)  # B G L C
    to_prefix = (q.reshape(B, G, N * R * S, C) @ prefix_k.transpose(-1, -2)).view(B, G, N, R, S, L)
    to_own = (q.reshape(B, G, N, R * S, C) @ own_k.transpose(-1, -2)).view(B, G, N, R, S, S)
    state_row = torch.zeros(S, S, dtype=torch.bool, device=q.device)
    state_row[0, 1:] = True
    scores = torch.cat(
        [
            to_prefix.float().masked_fill(~valid_BL[:, None, None, None, None], MASKED),
            to_own.float().masked_fill(state_row, MASKED),
        ],
        dim=-1,
    )
    weights = scores.softmax(-1).to(own_v.dtype)
    over_prefix, over_own = weights.split([L, S], dim=-1)
    out = (over_prefix.reshape(B, G, N * R * S, L) @ prefix_v).view(B, G, N, R, S, C)
    out = out + (over_own.reshape(B, G, N, R * S, S) @ own_v).view(B, G, N, R, S, C)
    return out.permute(0, 2, 4, 1, 3, 5).reshape(B, N, S, H * C)


def full_attention(q_BHLC: Tensor, k_BHLC: Tensor, v_BHLC: Tensor) -> Tensor:
    """Unmasked attention of the vision tower and the depth head: [..., H, L, C] in and out."""
    scores = (q_BHLC @ k_BHLC.transpose(-1, -2)).float() * q_BHLC.shape[-1] ** -0.5
    return scores.softmax(-1).to(v_BHLC.dtype) @ v_BHLC
