"""Template sentences for atomic segments, from the task's text and the kinematics; their source is `template`."""

import re
from collections.abc import Sequence

from model.data.segmentation import WHOLE, AtomicSegment

ONE = {
    "approach": "move the {arm} towards {object}",
    "reach": "move the {arm} to {object}",
    "close gripper": "close the {side} {tool}",
    "lift": "lift {object} with the {arm}",
    "lower": "lower {object} with the {arm}",
    "carry": "carry {object} with the {arm}",
    "open gripper": "open the {side} {tool}",
    "retract": "move the {arm} away",
    "move": "move the {arm}",
    "hold": "hold {object} with the {arm}",
    "wait": "wait",
}
# with both arms the task's text does not say which arm has which object
BOTH = {
    "approach": "move both arms towards their objects",
    "reach": "move both arms to their objects",
    "close gripper": "close both {tool}s",
    "lift": "lift with both arms",
    "lower": "lower with both arms",
    "carry": "carry with both arms",
    "open gripper": "open both {tool}s",
    "retract": "move both arms away",
    "move": "move both arms",
    "hold": "hold with both arms",
}
ARTICLE = re.compile(r"\b(?:the|an|a)\s+(?=([a-z0-9 -]+))", re.IGNORECASE)
# a noun phrase ends before these
STOP = frozenset(
    (
        "with", "from", "to", "into", "onto", "in", "on", "at", "of", "off", "by", "for", "and", "or", "then", "using",
        "while", "over", "under", "near", "next", "between", "towards", "toward", "inside", "behind", "beside", "until",
        "that", "which",
    )
)  # fmt: skip
UNKNOWN_OBJECT = "the object"


def task_object(task: str) -> str:
    """The first thing that a task's text names with an article: `lift the red cube with ...` gives `the red cube`."""
    for match in ARTICLE.finditer(task):
        words: list[str] = []
        for word in match.group(1).lower().split():
            if word in STOP:
                break
            words.append(word)
        if words and words[-1] not in ("arm", "hand", "gripper", "robot"):
            return "the " + " ".join(words)
    return UNKNOWN_OBJECT


def sub_task(segment: AtomicSegment, task: str) -> str:
    """The sentence of one segment."""
    acts = [(part.arm, part.action) for part in segment.parts] or [(arm, "hold") for arm in segment.holding]
    tool = next((part.tool for part in segment.parts), "")
    if not acts:
        return ONE["wait"]
    if len(acts) > 1 and len({action for _, action in acts}) == 1:
        return BOTH[acts[0][1]].format(tool=tool)
    return " and ".join(_sentence(arm, action, tool, task_object(task)) for arm, action in acts)


def arm_name(segment: AtomicSegment) -> str:
    """`left`, `right`, `both` or `robot`: who acts, or who holds while nothing moves; "" when nobody does."""
    return segment.arm or _joined(segment.holding)


def _joined(arms: Sequence[str]) -> str:
    return "both" if len(arms) > 1 else next(iter(arms), "")


def _sentence(side: str, action: str, tool: str, thing: str) -> str:
    arm = WHOLE if side == WHOLE else f"{side} arm"
    return ONE[action].format(arm=arm, side=side, tool=tool, object=thing)
