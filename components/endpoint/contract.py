"""What the served policy expects and gives: read from its bundle, told to clients, held against every observation."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from components.endpoint.bounds import Bounds

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
    """Names, sizes and limits of one bundle.

    Attributes:
        lower, upper: f64 [A], robot units, infinite where unknown.
        velocity: f64 [A], robot units a second, infinite where unknown.
        control_hz: the rate at which the actions of a chunk are executed.
        state_of_action: int [A], the state's dimension of the same name, -1 where it has none.
        described: the bundle's own contract, for the metadata.
    """

    robot: str
    robot_names: frozenset[str]  # id and aliases
    cameras: tuple[Camera, ...]
    state: tuple[str, ...]
    action: tuple[str, ...]
    horizon: int
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    control_hz: float
    state_of_action: np.ndarray
    described: dict[str, Any]

    @classmethod
    def of(cls, bundle: "Bundle") -> "Contract":
        facts, robot = bundle.contract, bundle.robot
        roles = {name: role for role, name in robot.cameras.items()}
        limits = np.asarray(robot.limits, dtype=np.float32).reshape(-1, 2)
        velocity = robot.velocity_limits
        if robot.action_mode != "absolute":
            # The file's limits are of positions and of how fast they change; these actions are differences.
            limits, velocity = np.full_like(limits, np.nan), np.full_like(velocity, np.nan)
        assert len(limits) == len(facts["action"]), "the robot's limits and the contract's actions differ in number"
        state = {name: dimension for dimension, name in enumerate(facts["state"])}
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
            velocity=np.where(np.isnan(velocity), np.inf, velocity),
            control_hz=float(facts["control_hz"]),
            state_of_action=np.array([state.get(name, -1) for name in facts["action"]], dtype=np.int64),
            described=facts,
        )

    @cached_property
    def bounds(self) -> Bounds:
        """The limits as every answer is held against them."""
        return Bounds.of(
            self.lower, self.upper, self.velocity, self.state_of_action, horizon=self.horizon, hertz=self.control_hz
        )

    def camera(self, name: str) -> Camera | None:
        return next((camera for camera in self.cameras if camera.name == name), None)

    def with_role(self, role: str) -> list[Camera]:
        """Cameras of a role; `wrist` is any wrist."""
        return [camera for camera in self.cameras if camera.role == role or camera.role.endswith(f"_{role}")]
