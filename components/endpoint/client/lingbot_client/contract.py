"""What a robot needs of a policy, held against what the endpoint says it serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingbot_client.errors import ContractMismatch


@dataclass(frozen=True)
class Needs:
    """What this robot has and can execute; what is None is not asked for.

    Attributes:
        robot: id of the robot that the policy must be for.
        cameras: names of the cameras that the robot has: the policy may want no other.
        state, action: names of their values, in order. Joints in another order would drive the wrong motors.
        control_hz: actions a second.
        horizon: the least number of steps in a chunk.
        normalization_digest: of the statistics that the policy was trained with.
        bundle_digest: of the one bundle that may answer.
    """

    robot: str | None = None
    cameras: Sequence[str] | None = None
    state: Sequence[str] | None = None
    action: Sequence[str] | None = None
    control_hz: float | None = None
    horizon: int | None = None
    normalization_digest: str | None = None
    bundle_digest: str | None = None

    def check(self, metadata: Mapping[str, Any]) -> None:
        """Holds the first frame of a connection against the needs.

        Raises:
            ContractMismatch: names everything that differs.
        """
        problems = [*self._about_bundle(metadata), *self._about_contract(metadata.get("contract"))]
        if problems:
            who = f"{metadata.get('model_name', 'the model')} version {metadata.get('model_version', 'unknown')}"
            raise ContractMismatch(f"{who} is not what was asked for: {'; '.join(problems)}")

    def _about_bundle(self, metadata: Mapping[str, Any]) -> list[str]:
        served = metadata.get("bundle_digest")
        if self.bundle_digest is None or served == self.bundle_digest:
            return []
        return [f"it is bundle {served}, wanted is {self.bundle_digest}"]

    def _about_contract(self, contract: Any) -> list[str]:
        wanted = (
            self.robot, self.cameras, self.state, self.action, self.control_hz, self.horizon, self.normalization_digest,
        )  # fmt: skip
        if all(each is None for each in wanted):
            return []
        if not isinstance(contract, Mapping):
            return ["the server does not tell its contract, so nothing can be checked"]
        problems = [
            f"its {name.replace('_', ' ')} is {contract.get(name)}, the robot's {value}"
            for name, value in (
                ("robot", self.robot),
                ("control_hz", self.control_hz),
                ("normalization_digest", self.normalization_digest),
            )
            if value is not None and contract.get(name) != value
        ]
        for name, names in (("state", self.state), ("action", self.action)):
            if names is not None:
                problems += _order(name, list(contract.get(name) or []), list(names))
        if self.cameras is not None:
            missing = [c["name"] for c in contract.get("cameras") or [] if c["name"] not in self.cameras]
            if missing:
                problems.append(f"it wants the cameras {', '.join(missing)}, the robot has {', '.join(self.cameras)}")
        if self.horizon is not None and contract.get("horizon", 0) < self.horizon:
            problems.append(f"its chunks have {contract.get('horizon')} steps, the robot needs {self.horizon}")
        return problems


def _order(what: str, served: list[str], own: list[str]) -> list[str]:
    """How two lists of names differ, at their first difference."""
    if len(served) != len(own):
        return [f"its {what} has {len(served)} values, the robot's {len(own)}"]
    for number, (theirs, ours) in enumerate(zip(served, own, strict=True)):
        if theirs != ours:
            return [f"value {number} of its {what} is {theirs}, the robot's is {ours}"]
    return []
