"""Small datasets for the tests of annotation: 20 Hz, three views of 16 pixels, several atomic actions an episode."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.data.lerobot_writer import LeRobotWriter
from model.robots import load_robot

ALOHA = load_robot("aloha_sim")
FPS = 20
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def smooth(start: int, end: int, length: int) -> np.ndarray:
    """0 to 1 between two frames, with rest at both ends."""
    s = np.clip((np.arange(length) - start) / (end - start), 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def picking(arm: str, length: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, action and poses of a reach, a closing and a lift by one arm: three atomic actions."""
    first = 7 if arm == "right" else 0
    action = np.zeros((length, 14), np.float32)
    action[:, [6, 13]] = 1.0
    action[30:, first + 6] = 0.0
    action[:, first] = smooth(0, 30, length)
    action[:, first + 1] = smooth(40, 59, length)
    state = action.copy()
    state[30:40, first + 6] = np.linspace(0.9, 0, 10)  # fingers take half a second
    pose = np.zeros((length, 14), np.float32)
    pose[:, first + 2] = 0.2 * smooth(40, 59, length)
    return state, action, pose


def moving(arm: str, length: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, action and poses of one atomic action: an arm moves."""
    action = np.zeros((length, 14), np.float32)
    action[:, [6, 13]] = 1.0
    action[:, 7 if arm == "right" else 0] = smooth(0, 30, length)
    return action.copy(), action, np.zeros((length, 14), np.float32)


def picking_twice(arm: str, length: int = 140) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State, action and poses of eight atomic actions: reach, close, lift, lower, open; reach, close and lift."""
    first = 7 if arm == "right" else 0
    action = np.zeros((length, 14), np.float32)
    action[:, [6, 13]] = 1.0
    action[20:70, first + 6] = 0.0
    action[110:, first + 6] = 0.0
    action[:, first] = smooth(0, 20, length) - smooth(80, 110, length)
    action[:, first + 1] = smooth(30, 48, length) - smooth(52, 70, length) + smooth(120, 139, length)
    state = action.copy()
    for closing in (20, 110):
        state[closing : closing + 10, first + 6] = np.linspace(0.9, 0, 10)
    state[70:80, first + 6] = np.linspace(0, 0.9, 10)
    pose = np.zeros((length, 14), np.float32)
    height = smooth(30, 48, length) - smooth(52, 70, length) + smooth(120, 139, length)
    pose[:, first + 2] = 0.2 * height
    return state, action, pose


def write_picks(
    folder: Path,
    episodes: int,
    cameras: tuple[str, ...] = CAMERAS,
    motion: Callable[[str], tuple[np.ndarray, np.ndarray, np.ndarray]] = picking,
    pixels: int = 16,
) -> Path:
    """A dataset of picks, the arms in turn; frames tell their episode and time by their colour."""
    writer = LeRobotWriter(
        folder, fps=FPS, robot_type="aloha_sim", state_names=ALOHA.state_names, action_names=ALOHA.action_names,
        cameras=dict.fromkeys(cameras, (pixels, pixels)), depth=False,
    )  # fmt: skip
    for episode in range(episodes):
        arm = ("right", "left")[episode % 2]
        state, action, pose = motion(arm)
        frames = np.zeros((len(state), pixels, pixels, 3), np.uint8)
        frames[..., 0] = (np.arange(len(state)) * 4 % 256)[:, None, None]
        frames[..., 1] = (episode * 37) % 256
        writer.add_episode(
            task=f"lift the red cube with the {arm} arm", state=state, action=action, eef_pose=pose,
            images=dict.fromkeys(cameras, frames),
        )  # fmt: skip
    writer.finish()
    return folder


def no_quarantine(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "quarantine.yaml").write_text("[]\n")
    return folder
