"""The two vectors that every robot's dimensions are placed in, so that one policy serves all of them.

1.0: 75 dimensions (DESIGN section 6; SPEC_VLA section 1.12 has the released part, 0 to 29).
2.0: 55 dimensions (SPEC_VLA section 6): arm 14, end pose 14, gripper 2, waist 4, head 2, base 3, hand 12, 4 reserved.
Its released order is that of each robot's own file; ours is that of the list, left before right. What 2.0 has no room
for (legs, a third neck joint, more than six joints a hand) is unplaced and masked.
"""

from collections.abc import Sequence

import numpy as np

CANONICAL_DIM = 75
UNIFIED_DIM = 55
UNPLACED = -1

# kind -> slots that a group of it may take in the 75-dim vector; a raw layout has no such rule
SLOTS: dict[str, tuple[range, ...]] = {
    "arm": (range(7), range(7, 14)),
    "gripper": (range(14, 15), range(15, 16)),
    "end_effector": (range(16, 23), range(23, 30)),
    "hand": (range(30, 40), range(40, 50)),
    "waist": (range(50, 54),),
    "head": (range(54, 57),),
    "base": (range(57, 60),),
    "leg": (range(60, 66), range(66, 72)),
    "raw": (),
}

# the same kinds in the 55-dim vector
UNIFIED_SLOTS: dict[str, tuple[range, ...]] = {
    "arm": (range(7), range(7, 14)),
    "end_effector": (range(14, 21), range(21, 28)),
    "gripper": (range(28, 29), range(29, 30)),
    "waist": (range(30, 34),),
    "head": (range(34, 36),),
    "base": (range(36, 39),),
    "hand": (range(39, 45), range(45, 51)),
}


def unified_slot(slot: int) -> int:
    """The index in the 55-dim vector of slot `slot` of the 75-dim one; `UNPLACED` where there is none."""
    for kind, places in UNIFIED_SLOTS.items():
        for place, span in zip(places, SLOTS[kind], strict=True):
            if slot in span and slot - span.start < len(place):
                return place.start + slot - span.start
    return UNPLACED


def slot_mask(slots: Sequence[int], dim: int) -> np.ndarray:
    """Bool [dim]: which places `slots` fill; `UNPLACED` fills none."""
    filled = np.zeros(dim, dtype=bool)
    filled[[slot for slot in slots if slot != UNPLACED]] = True
    return filled
