"""When a gripper closes and opens: the story that the moves of its arm are named by."""

import numpy as np

from model.data.goals import closing_frames, opening_frames

CLOSE, OPEN = "close gripper", "open gripper"
Turn = tuple[int, str]  # a frame, and which of both happens there


def turns_of(opening: np.ndarray | None, least: int) -> list[Turn]:
    """When a gripper closes and opens, in order; one that opens again within `least` frames has held nothing.

    Args:
        opening: [L], 0 closed to 1 open; None for an arm without a gripper.
    """
    if opening is None:
        return []
    turns = [(int(frame), CLOSE) for frame in closing_frames(opening)]
    turns += [(int(frame), OPEN) for frame in opening_frames(opening)]
    kept: list[Turn] = []
    for frame, action in sorted(turns):
        if action == OPEN and kept and kept[-1][1] == CLOSE and frame - kept[-1][0] < least:
            kept.pop()
        else:
            kept.append((frame, action))
    return kept
