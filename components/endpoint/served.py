"""One version that can be served: everything that an answer comes from, and who it is."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from components.endpoint.contract import Contract

if TYPE_CHECKING:
    from model.bundle import Bundle

UNREGISTERED = "unregistered"


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """One immutable version. Work that was given to it keeps it, whatever is swapped meanwhile."""

    bundle: "Bundle"
    model_name: str
    model_version: str  # the registry's number, or UNREGISTERED for a bundle served from a path
    alias: str | None = None
    remembered: str | None = None  # when this machine began to serve it, where the registry was away at the start

    @cached_property
    def contract(self) -> Contract:
        return Contract.of(self.bundle)

    @property
    def digest(self) -> str:
        return self.bundle.digest

    def identity(self) -> dict[str, str]:
        """Strings that every answer carries. Texts only: openpi's broker slices each array by the step."""
        names = {
            "model_name": self.model_name,
            "model_version": self.model_version,
            "bundle_digest": self.bundle.digest,
        }
        return names if self.alias is None else {**names, "model_alias": self.alias}
