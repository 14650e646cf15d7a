"""Waiting for a fact: what is true at last does not depend on how fast the machine is."""

import asyncio
import time
from collections.abc import Callable

LONG = 120.0
"""Seconds after which a fact will not become true any more, on whatever machine."""


def wait_for(fact: Callable[[], object], what: str) -> None:
    """Until `fact()` is true, or a failure that says what was waited for."""
    end = time.monotonic() + LONG
    while not fact():
        assert time.monotonic() < end, f"waited {LONG:.0f} s for {what}"
        time.sleep(0.005)


async def turn_until(fact: Callable[[], object], what: str) -> None:
    """The same while the event loop goes on."""
    end = time.monotonic() + LONG
    while not fact():
        assert time.monotonic() < end, f"waited {LONG:.0f} s for {what}"
        await asyncio.sleep(0.005)
