"""Rows of annotations as a reviewer would leave them, for tests."""

from typing import Any

from model.data.annotations import ACCEPTED, UNREVIEWED, complete

FPS = 20.0


def row(episode: int, start: int, end: int, action: str, **changed: Any) -> dict[str, Any]:
    """An unreviewed row of the template."""
    return complete(
        {
            "episode": episode, "start": start, "end": end, "atomic_action": action, "arm": "right",
            "task": "lift the cube", "sub_task": f"{action} the cube", "objects": "cube", "source": "template",
            "confidence": 0.5, "review_state": UNREVIEWED,
        }
        | changed
    )  # fmt: skip


def accepted(episode: int, *parts: tuple[int, int, str], by: str = "anna", **changed: Any) -> list[dict[str, Any]]:
    """Rows of one episode that a person has accepted."""
    review = {"review_state": ACCEPTED, "reviewer": by, "reviewed_at": f"2026-01-0{1 + len(by) % 9}T00:00:00Z"}
    return [row(episode, *part, **review, **changed) for part in parts]
