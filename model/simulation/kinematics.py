"""Forward and inverse kinematics of the two grippers, on the robot's own joint model."""

from typing import TYPE_CHECKING

import numpy as np

from model.simulation.scene import ARMS, FINGER_OPEN, GRIP_OFFSET, load_mujoco

if TYPE_CHECKING:
    import mujoco

ARM_JOINTS = 6
_QPOS_OF_ARM = {"left": 0, "right": 8}


class Kinematics:
    """Poses of the grippers and joint angles that reach a pose. Needs no renderer and no physics.

    Poses are of the point between the finger pads (`GRIP_OFFSET` in the gripper link), in the world frame.
    """

    def __init__(self, model: "mujoco.MjModel") -> None:
        self._mj = load_mujoco()
        self._model = model
        self._data = self._mj.MjData(model)
        self._body = {arm: model.body(f"vx300s_{arm}/gripper_link").id for arm in ARMS}
        self._jacobian = np.zeros((6, model.nv))

    def pose(self, data: "mujoco.MjData", arm: str) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] in metres and orientation [4] (w, x, y, z, w >= 0) of a gripper in `data`."""
        body = self._body[arm]
        quaternion = data.xquat[body].copy()
        position = data.xpos[body] + data.xmat[body].reshape(3, 3) @ GRIP_OFFSET
        return position, quaternion if quaternion[0] >= 0 else -quaternion

    def forward(self, arm: str, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pose of the gripper of `arm` with its six joints at `joints` (radians)."""
        self._set(arm, joints)
        return self.pose(self._data, arm)

    def inverse(
        self, arm: str, position: np.ndarray, quaternion: np.ndarray, start: np.ndarray, iterations: int = 60
    ) -> np.ndarray:
        """Six joint angles that bring the gripper to a pose: damped least squares from `start`.

        Raises:
            AssertionError: the pose is further than 2 mm or 0.02 rad out of reach. The scripted expert asks only for
                poses in the workspace, so this is a fault of ours.
        """
        address = _QPOS_OF_ARM[arm]
        columns = slice(address, address + ARM_JOINTS)
        limits = self._model.jnt_range[columns]
        joints = start.astype(np.float64).copy()
        error = np.zeros(6)
        turn = np.zeros(4)
        conjugate = np.zeros(4)
        for _ in range(iterations):
            self._set(arm, joints)
            at, orientation = self.pose(self._data, arm)
            error[:3] = position - at
            self._mj.mju_negQuat(conjugate, orientation)
            self._mj.mju_mulQuat(turn, quaternion, conjugate)
            self._mj.mju_quat2Vel(error[3:], turn, 1.0)
            if np.abs(error[:3]).max() < 1e-5 and np.abs(error[3:]).max() < 1e-4:
                break
            self._mj.mj_jac(self._model, self._data, self._jacobian[:3], self._jacobian[3:], at, self._body[arm])
            jacobian = self._jacobian[:, columns]
            # Damping keeps the step bounded where the arm is stretched; steps over 0.3 rad leave the linear range.
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            joints = np.clip(joints + np.clip(step, -0.3, 0.3), limits[:, 0], limits[:, 1])
        distance, angle = np.linalg.norm(error[:3]), np.linalg.norm(error[3:])
        assert distance < 2e-3 and angle < 2e-2, (
            f"{arm} gripper cannot reach {position}: {distance:.4f} m, {angle:.3f} rad"
        )
        return joints

    def _set(self, arm: str, joints: np.ndarray) -> None:
        address = _QPOS_OF_ARM[arm]
        self._data.qpos[address : address + ARM_JOINTS] = joints
        self._data.qpos[address + ARM_JOINTS : address + 8] = (FINGER_OPEN, -FINGER_OPEN)
        self._mj.mj_kinematics(self._model, self._data)
        self._mj.mj_comPos(self._model, self._data)
