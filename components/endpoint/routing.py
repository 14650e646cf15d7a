"""Which version answers an episode: the champion, or the canary for a share of the new episodes."""

import hashlib
from dataclasses import dataclass

from components.endpoint.served import Served

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
PINNED = "pinned"  # the route of an episode whose version the client chose


@dataclass(frozen=True, kw_only=True, eq=False)
class Routes:
    """What is served now; replaced as a whole, never changed.

    Attributes:
        champion: answers.
        canary: answers `share` (0 to 1) of the new episodes.
        shadow: is asked what the others were asked; its answers are compared and never sent.
    """

    champion: Served
    canary: Served | None = None
    share: float = 0.0
    shadow: Served | None = None

    def of_episode(self, key: str) -> tuple[Served, str]:
        """The version and the route of a new episode. The same key is drawn the same way, in every process."""
        if self.canary is not None and draw(key) < self.share:
            return self.canary, CANARY
        return self.champion, CHAMPION

    def roles(self) -> list[tuple[str, Served]]:
        """Each version that is loaded, with what it is here."""
        roles = ((CHAMPION, self.champion), (CANARY, self.canary), (SHADOW, self.shadow))
        return [(role, served) for role, served in roles if served is not None]


def draw(key: str) -> float:
    """A number in [0, 1) that depends on the key alone, uniform over keys."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") / 2**56
