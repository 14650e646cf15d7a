"""A toleration of a pod: which taints of nodes it goes past."""

from dataclasses import dataclass
from typing import Literal

from model.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """As in a pod. `key` "" with `operator` Exists tolerates everything."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    def __post_init__(self) -> None:
        if self.operator == "Exists" and self.value:
            raise UserError(f"a toleration of '{self.key}' has the value '{self.value}': operator must be Equal then.")
        if not self.key and self.operator == "Equal":
            raise UserError("a toleration without a key tolerates everything: its operator must be Exists.")
