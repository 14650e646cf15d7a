"""Plays the chunks of a policy one step at a time."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """`PolicyClient`, or anything that answers observations with chunks."""

    def infer(self, message: Mapping[str, Any]) -> dict[str, Any]: ...

    def reset(self, episode_id: str = "") -> None: ...


class ActionChunkBroker:
    """Asks for a chunk, gives it out row by row, and looks again after `execute_steps` of them.

    Args:
        policy: who is asked.
        execute_steps: rows of a chunk between two looks; None: all of them.
    """

    def __init__(self, policy: Policy, *, execute_steps: int | None = None) -> None:
        if execute_steps is not None and execute_steps < 1:
            raise ValueError(f"execute_steps {execute_steps} must be at least 1")
        self._policy = policy
        self._execute_steps = execute_steps
        self._row = 0
        self.reply: dict[str, Any] | None = None
        """The reply that is being played."""

    @property
    def due(self) -> bool:
        """Whether the next `act` asks, and so needs an observation."""
        return self.reply is None or self._row >= self._length

    def act(self, message: Mapping[str, Any] | None) -> np.ndarray:
        """The next action [A].

        Args:
            message: the present observation; it is used only when `due`, and may be None otherwise.

        Raises:
            ClientError: as `PolicyClient.infer`. The chunk before is given up.
        """
        if self.due:
            if message is None:
                raise ValueError("the chunk is played to its end: give an observation (see `due`)")
            self.reply = None
            self.reply = self._policy.infer(message)
            self._row = 0
        assert self.reply is not None
        action: np.ndarray = self.reply["actions"][self._row]
        self._row += 1
        return action

    def reset(self) -> None:
        """Begins an episode; what is left of the chunk is given up."""
        self.reply, self._row = None, 0
        self._policy.reset()

    @property
    def _length(self) -> int:
        assert self.reply is not None
        rows = len(self.reply["actions"])
        return rows if self._execute_steps is None else min(rows, self._execute_steps)
