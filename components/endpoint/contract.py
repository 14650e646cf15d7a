"""What the served policy expects and gives: read from its bundle, told to clients, held against every observation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from model.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Camera:
    name: str  # as in `observation.images.<name>`
    role: str  # "high", "left_wrist" or "right_wrist"; the name again when the robot's file gives it no role
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Names and sizes of one bundle. `lower` and `upper`: [A], robot units, infinite where unknown."""

    robot: str
    robot_names: frozenset[str]  # id and aliases
    cameras: tuple[Camera, ...]
    state: tuple[str, ...]
    action: tuple[str, ...]
    horizon: int
    lower: np.ndarray
    upper: np.ndarray
    described: dict[str, Any]  # the bundle's own contract, for the metadata

    @classmethod
    def of(cls, bundle: "Bundle") -> "Contract":
        facts, robot = bundle.contract, bundle.robot
        roles = {name: role for role, name in robot.cameras.items()}
        limits = np.asarray(robot.limits, dtype=np.float32).reshape(-1, 2)
        if robot.action_mode != "absolute":
            limits = np.full_like(limits, np.nan)  # the file's limits are of positions; these actions are differences
        assert len(limits) == len(facts["action"]), "the robot's limits and the contract's actions differ in number"
        return cls(
            robot=robot.id,
            robot_names=frozenset((robot.id, *robot.aliases)),
            cameras=tuple(
                Camera(
                    name=camera["name"],
                    role=roles.get(camera["name"], camera["name"]),
                    height=camera["height"],
                    width=camera["width"],
                )
                for camera in facts["cameras"]
            ),
            state=tuple(facts["state"]),
            action=tuple(facts["action"]),
            horizon=facts["horizon"],
            lower=np.where(np.isnan(limits[:, 0]), -np.inf, limits[:, 0]),
            upper=np.where(np.isnan(limits[:, 1]), np.inf, limits[:, 1]),
            described=facts,
        )

    def camera(self, name: str) -> Camera | None:
        return next((camera for camera in self.cameras if camera.name == name), None)

    def with_role(self, role: str) -> list[Camera]:
        """Cameras of a role; `wrist` is any wrist."""
        return [camera for camera in self.cameras if camera.role == role or camera.role.endswith(f"_{role}")]
