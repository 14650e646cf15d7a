"""Chunks of actions: the T actions from a frame on, as the policy predicts them."""

import numpy as np

from model.errors import UserError


def action_chunks(action: np.ndarray, frames: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The chunks that begin at `frames` of an episode.

    Args:
        action: [L, A], one episode.
        frames: int [N], each in [0, L).
        horizon: T.

    Returns:
        chunks [N, T, A], the last action repeated past the end of the episode, and padding bool [N, T], True there.

    Raises:
        UserError: a frame lies outside the episode, or the horizon is below 1.
    """
    frames = np.asarray(frames)
    if horizon < 1:
        raise UserError(f"horizon is {horizon}: a chunk has at least 1 action.")
    outside = frames[(frames < 0) | (frames >= len(action))]
    if outside.size:
        raise UserError(f"frame {outside[0]} is asked for, the episode has {len(action)} frames.")
    at = frames[:, None] + np.arange(horizon)
    return action[np.minimum(at, len(action) - 1)], at >= len(action)
