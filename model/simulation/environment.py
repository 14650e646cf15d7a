"""The simulation: reset to a seed, look, act."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import UserError, unknown_name
from model.simulation.judging import Contacts
from model.simulation.kinematics import Kinematics
from model.simulation.objects import SCENES, draw_objects
from model.simulation.randomisation import Variation
from model.simulation.rendering import RGBDRenderer
from model.simulation.scene import (
    ARMS,
    CAMERAS,
    HOME,
    HOME_FINGER,
    NAMES,
    build_model,
    finger_to_opening,
    load_mujoco,
    opening_to_finger,
)
from model.simulation.sensing import Touched
from model.simulation.tasks import HOLD_SECONDS, find_task

if TYPE_CHECKING:
    import mujoco

CONTROL_HZ = 50
"""The controller gets a new target at this rate (gym-aloha's control rate), ten physics steps of 2 ms each."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an action led to."""

    checkpoints_passed: int
    """Running maximum over the episode: 0 to the task's number of checkpoints."""
    success: bool
    """The last checkpoint was reached, now or earlier in the episode."""
    time: float
    """Simulated seconds since the reset."""


class Simulation:
    """Two ViperX arms at a table with the objects of a task.

    Args:
        task: a name of `TASKS`; it judges progress and success. Tasks of one scene see the same scenes.
        image_size: side of the square images, pixels.
        fps: actions a second, a divisor of 50. The controller interpolates to each target at 50 Hz.
        render_depth: `observe` also gives depth.
        cameras: the views that `observe` renders.
        randomise: light, colours, camera poses and distractors are drawn from the seed too. Bodies move as without.

    Raises:
        UserError: unknown task or camera, impossible rate or size, no EGL.
    """

    def __init__(
        self,
        task: str,
        *,
        image_size: int = 112,
        fps: int = 10,
        render_depth: bool = False,
        cameras: Sequence[str] = CAMERAS,
        randomise: bool = False,
    ) -> None:
        self.task = find_task(task)
        for camera in cameras:
            if camera not in CAMERAS:
                raise unknown_name("camera", camera, CAMERAS)
        if fps < 1 or CONTROL_HZ % fps:
            raise UserError(f"fps {fps} is no divisor of the controller's {CONTROL_HZ} Hz: use 1, 2, 5, 10, 25 or 50.")
        if not 16 <= image_size <= 1024:
            raise UserError(f"image_size {image_size} is outside 16 to 1024 pixels: choose a size in that range.")
        self.fps = fps
        self.image_size = image_size
        self.cameras = tuple(cameras)
        self._mj = load_mujoco()
        self._scene = SCENES[self.task.scene]
        self._model = build_model(image_size, self.task.scene, distractors=randomise)
        self._variation = Variation(self._model, self._scene) if randomise else None
        self._data = self._mj.MjData(self._model)
        self._kinematics = Kinematics(self._model)
        self._render_depth = render_depth
        self._renderer: RGBDRenderer | None = None
        self._substeps = round(1 / (CONTROL_HZ * self._model.opt.timestep))
        self._touched = Touched(self._model, self._scene)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Arms at home, the objects where `seed` puts them. The scene is a pure function of the seed."""
        self._mj.mj_resetData(self._model, self._data)
        fingers = (HOME_FINGER, -HOME_FINGER)
        self._data.qpos[:16] = np.concatenate([HOME, fingers, HOME, fingers])
        poses = draw_objects(self._scene.name, seed)
        self._data.qpos[16:] = np.concatenate([poses[name] for name in self._scene.movable])
        for name in self._scene.fixed:
            self._model.body(name).pos[:] = poses[name][:3]
        if self._variation is not None:
            self._variation.draw(seed, [pose[:2] for pose in poses.values()])
        self._data.ctrl[:] = self._data.qpos[:16]
        self._mj.mj_forward(self._model, self._data)
        self._target = self.state().astype(np.float64)
        self._ticks = 0
        self._held = 0
        self._passed = 0

    def state(self) -> np.ndarray:
        """Measured joints, float32 [14] in the order of `NAMES`: radians, grippers 0 closed to 1 open."""
        q = self._data.qpos
        return np.concatenate([q[:6], [finger_to_opening(q[6])], q[8:14], [finger_to_opening(q[14])]]).astype(
            np.float32
        )

    def eef_pose(self) -> np.ndarray:
        """Both grippers from forward kinematics, float32 [14]: left xyz and quaternion wxyz, then right."""
        parts = [part for arm in ARMS for part in self._kinematics.pose(self._data, arm)]
        return np.concatenate(parts).astype(np.float32)

    def object_poses(self) -> dict[str, np.ndarray]:
        """Privileged: pose [7] of each movable object. For tests; no policy or label may use it."""
        poses = self._data.qpos[16:].copy().reshape(-1, 7)
        return dict(zip(self._scene.movable, poses, strict=True))

    def observe(self) -> dict[str, Any]:
        """What the robot perceives: `images` (uint8 [H,W,3] by camera), `state`, `eef_pose`, and `depth` (float32
        metres [H,W] by camera, 0 = no return) when it was asked for."""
        if self._renderer is None:
            self._renderer = RGBDRenderer(self._model, self.image_size)
        views = {camera: self._renderer.render(self._data, camera, self._render_depth) for camera in self.cameras}
        seen: dict[str, Any] = {
            "images": {camera: rgb for camera, (rgb, _) in views.items()},
            "state": self.state(),
            "eef_pose": self.eef_pose(),
        }
        if self._render_depth:
            seen["depth"] = {camera: depth for camera, (_, depth) in views.items()}
        return seen

    @property
    def scene(self) -> tuple["mujoco.MjModel", "mujoco.MjData"]:
        """MuJoCo's model and state, for who watches: a spectator's camera, a window. Change nothing in them."""
        return self._model, self._data

    def step(self, action: np.ndarray, on_tick: Callable[[], None] | None = None) -> StepResult:
        """Move towards absolute joint targets for 1/fps seconds.

        Args:
            action: [14] in the order of `NAMES`. Clipped to the actuators' ranges, as the controller does.
            on_tick: called after every 1/50 s of it.

        Raises:
            UserError: wrong shape, or a number that is not finite.
        """
        target = np.asarray(action, dtype=np.float64)
        if target.shape != (len(NAMES),) or not np.isfinite(target).all():
            raise UserError(
                f"an action is {len(NAMES)} finite numbers, got shape {target.shape}, {target}: check what gives them."
            )
        ticks = CONTROL_HZ // self.fps
        before = self._target
        for tick in range(1, ticks + 1):
            self._command(before + (target - before) * (tick / ticks))
            self._mj.mj_step(self._model, self._data, self._substeps)
            self._judge()
            if on_tick is not None:
                on_tick()
        self._target = target
        self._ticks += ticks
        return StepResult(
            checkpoints_passed=self._passed,
            success=self._passed == len(self.task.checkpoints),
            time=self._ticks / CONTROL_HZ,
        )

    def close(self) -> None:
        """Free the renderer's OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _command(self, target: np.ndarray) -> None:
        left, right = opening_to_finger(target[6]), opening_to_finger(target[13])
        self._data.ctrl[:] = np.concatenate([target[:6], (left, -left), target[7:13], (right, -right)])

    def _judge(self) -> None:
        contacts = self.contacts()
        last = len(self.task.checkpoints)
        passed = self.task.advance(self._passed, contacts)
        self._held = self._held + 1 if passed >= last - 1 and self.task.rule(contacts)[-1] else 0
        self._passed = last if self._held > round(HOLD_SECONDS * CONTROL_HZ) else passed

    def contacts(self) -> Contacts:
        """Privileged: who touches what now. For judging only."""
        return self._touched.read(self._data, self._kinematics)
