"""A fault injector: clean little datasets by the project's own writer, and one kind of corruption an episode.

Each fault states the rule that must name it and the smallest magnitude that it is caught at; no other rule may speak.
The pictures are drawn from the joints (a patch an arm on a background of its camera), so a picture tells its moment.
Faults of files, text and time, which a writer does not make, are in test_validate.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from model.data.lerobot_writer import LeRobotWriter

FPS, LENGTH, SIZE = 10, 48, 48
VIEWS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
HIGH, LEFT, RIGHT = VIEWS
NAMES = tuple(
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
)
GRIPPERS = [6, 13]
ARMS = [dim for dim in range(14) if dim not in GRIPPERS]
TASK = "lift the cube with the right arm"
ELBOW_LIMIT = 1.6057


@dataclass(kw_only=True)
class Made:
    """One episode before it is written; a fault changes it in place."""

    state: np.ndarray
    action: np.ndarray
    eef: np.ndarray
    images: dict[str, np.ndarray]
    task: str = TASK
    others: Sequence["Made"] = field(default=(), repr=False)
    """The clean episodes of the dataset, for faults that copy from them."""


def make_episode(seed: int, number: int, *, still: tuple[int, int] = (0, 0)) -> Made:
    """A smooth motion of both arms, with `still` frames before and after it."""
    rng = np.random.default_rng([seed, number])
    # People move in bursts: the pace changes every 0.3 s, which is what tells the moment of a picture.
    pace = rng.uniform(0.1, 2.0, LENGTH // 3).repeat(3)
    time = np.cumsum(pace) / FPS
    moved = np.zeros((LENGTH, 14))
    for share, low, high in ((0.14, 0.15, 0.3), (0.05, 0.7, 1.1)):
        rate, phase = rng.uniform(low, high, 14), rng.uniform(0, 2 * np.pi, 14)
        moved += share * rng.uniform(0.7, 1, 14) * np.sin(2 * np.pi * rate * time[:, None] + phase)
    closed = np.clip((np.arange(LENGTH) / FPS - rng.uniform(1.2, 1.6)) / 0.4, 0, 1)
    moved[:, GRIPPERS] = (0.9 - 0.8 * closed)[:, None]
    moved = np.pad(moved, (still, (0, 0)), mode="edge")
    action = np.concatenate([moved[1:], moved[-1:]])
    steady = np.pad(np.ones(LENGTH), still)[:, None]
    state = moved + steady * rng.normal(0, 0.002, moved.shape)
    eef = np.zeros((len(moved), 14))
    eef[:, [3, 10]] = 1
    eef[:, :3], eef[:, 7:10] = moved[:, :3], moved[:, 7:10]
    return Made(state=state, action=action, eef=eef, images=draw(moved, rng))


def draw(state: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Views of uint8 [L, SIZE, SIZE, 3]: two patches over the table from above, the table moving past at the wrists."""
    table = np.random.default_rng(7)
    images = {}
    for view in VIEWS:
        shade = np.linspace(60, 190, 2 * SIZE)[:, None, None] * np.array([1.0, 0.8, 0.6])
        ground = shade + np.kron(table.uniform(-45, 45, (16, 16, 1)), np.ones((6, 6, 1)))
        if view == RIGHT:
            ground = ground.transpose(1, 0, 2)
        frames = np.empty((len(state), SIZE, SIZE, 3))
        for frame, row in zip(frames, state, strict=True):
            if view == HIGH:
                frame[:] = ground[24 : 24 + SIZE, 24 : 24 + SIZE]
                for arm, column in ((row[:6], 4), (row[7:13], 26)):
                    x, y = column + round(14 * arm[[0, 3, 5]].sum()), 18 + round(16 * arm[[1, 2, 4]].sum())
                    light = 60 * np.sin(6 * arm.sum())
                    frame[max(0, y) : max(0, y + 16), max(0, x) : max(0, x + 16)] = (180 + light, 70 + light, 70)
            else:
                arm = row[:6] if view == LEFT else row[7:13]
                x, y = 24 + round(20 * arm[[0, 3, 5]].sum()), 24 + round(20 * arm[[1, 2, 4]].sum())
                x, y = (min(SIZE, max(0, place)) for place in (x, y))
                frame[:] = ground[y : y + SIZE, x : x + SIZE]
                frame[36:, 12:36] = (200, 170 + 60 * np.sin(6 * arm.sum()), 60)
        noise = rng.normal(0, 1, (len(state), SIZE, SIZE, 1))
        images[view] = np.clip(frames + noise, 0, 255).astype(np.uint8)
    return images


def write(root: Path, episodes: Sequence[Made]) -> Path:
    writer = LeRobotWriter(
        root,
        fps=FPS,
        robot_type="aloha_sim",
        state_names=NAMES,
        action_names=NAMES,
        cameras=dict.fromkeys(VIEWS, (SIZE, SIZE)),
        depth=False,
    )
    for each in episodes:
        writer.add_episode(task=each.task, state=each.state, action=each.action, eef_pose=each.eef, images=each.images)
    writer.finish()
    return root


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of corruption.

    Attributes:
        rule: that must name it.
        smallest: the magnitude that `apply` makes.
        apply: changes a clean episode.
        still: frames without motion before and after the episode that it is applied to.
    """

    rule: str
    smallest: str
    apply: Callable[[Made], object]
    still: tuple[int, int] = (0, 0)


def _set(view: str, frames: slice | int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Made], None]:
    """A fault that replaces frames of a view by what `change` makes of them (as float)."""

    def apply(made: Made) -> None:
        images = made.images[view].copy()
        images[frames] = np.clip(change(images[frames].astype(float)), 0, 255).astype(np.uint8)
        made.images[view] = images

    return apply


def _blur(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: gaussian_filter(frames, (0, sigma, sigma, 0))


def _late(made: Made, views: Sequence[str], frames: int) -> None:
    for view in views:
        images = made.images[view]
        made.images[view] = np.concatenate([images[:1].repeat(frames, axis=0), images[:-frames]])


def _exchange(made: Made) -> None:
    made.images[LEFT], made.images[RIGHT] = made.images[RIGHT], made.images[LEFT]


def _both(made: Made, dim: int | list[int], change: Callable[[np.ndarray], np.ndarray]) -> None:
    for values in (made.state, made.action):
        values[:, dim] = change(values[:, dim])


def _raise_to(made: Made, dim: int, top: float) -> None:
    shift = top - made.action[:, dim].max()
    _both(made, dim, lambda values: values + shift)


def _state_limit(made: Made) -> None:
    _raise_to(made, 2, ELBOW_LIMIT)
    made.state[:, 2] += ELBOW_LIMIT + 0.33 - made.state[:, 2].max()


def _shake(made: Made, dim: int, amplitude: float, angle: float) -> None:
    """The joint does nothing but swing, `angle` rad of its phase a frame."""
    swing = amplitude * np.cos(angle * np.arange(len(made.action) + 1))
    made.state[:, dim], made.action[:, dim] = swing[:-1], swing[1:]


def _degrees(made: Made, key: str) -> None:
    getattr(made, key)[:, ARMS] *= 180 / np.pi


def _ticks(made: Made) -> None:
    made.state[:, ARMS] = np.rint(2048 + made.state[:, ARMS] * 4096 / (2 * np.pi))


def _spike(values: np.ndarray, dim: int, size: float) -> None:
    """Off both neighbours by `size`."""
    values[20, dim] = max(values[19, dim], values[21, dim]) + size


def _step(values: np.ndarray, dim: int, speed: float, frame: int) -> None:
    """From `frame` on another value, so that the step there is just faster than `speed`."""
    values[frame:, dim] += 1.02 * speed / FPS - (values[frame, dim] - values[frame - 1, dim])


def _shift_action(made: Made, frames: int) -> None:
    """`frames` earlier (positive) or later, the end repeated."""
    places = np.clip(np.arange(len(made.action)) + frames, 0, len(made.action) - 1)
    made.action = made.action[places]


def _rest(made: Made) -> None:
    made.state[:], made.action[:] = made.state[0], made.state[0]
    made.images = {view: images[:1].repeat(len(images), axis=0) for view, images in made.images.items()}


def _copy(made: Made, *, motion: bool, video: bool, noise: float = 0.0) -> None:
    other = made.others[1]
    if motion:
        jitter = np.random.default_rng(3).normal(0, noise, other.state.shape) if noise else 0
        made.state, made.action, made.eef = other.state + jitter, other.action.copy(), other.eef.copy()
    if video:
        made.images = dict(other.images)


FAULTS: dict[str, Fault] = {
    "view frozen": Fault(
        rule="frozen", smallest="1 s, of which it moves 0.5 s", apply=_set(HIGH, slice(20, 31), lambda f: f[:1])
    ),
    "black frame": Fault(rule="black", smallest="1 frame", apply=_set(LEFT, 30, lambda f: 0 * f)),
    "white frame": Fault(rule="flat", smallest="1 frame", apply=_set(RIGHT, 30, lambda f: 0 * f + 255)),
    "view out of focus for a while": Fault(
        rule="blurred", smallest="Gaussian of 1 px, 3 frames", apply=_set(HIGH, slice(12, 15), _blur(1.0))
    ),
    "view out of focus throughout": Fault(
        rule="blurred", smallest="Gaussian of 1 px", apply=_set(LEFT, slice(None), _blur(1.0))
    ),
    "snow": Fault(
        rule="noisy",
        smallest="1 frame, standard deviation 60",
        apply=_set(HIGH, 17, lambda f: f + np.random.default_rng(0).normal(0, 60, f.shape)),
    ),
    "red and blue exchanged": Fault(
        rule="colours", smallest="two channels", apply=_set(HIGH, slice(None), lambda f: f[..., ::-1])
    ),
    "under-exposed": Fault(rule="exposure", smallest="a third", apply=_set(LEFT, slice(None), lambda f: f / 3)),
    "wrist views exchanged": Fault(rule="view_exchanged", smallest="two views", apply=_exchange),
    "view upside down": Fault(
        rule="view_turned", smallest="one view", apply=_set(HIGH, slice(None), lambda f: f[:, ::-1])
    ),
    "view turned by 180 degrees": Fault(
        rule="view_turned", smallest="one view", apply=_set(RIGHT, slice(None), lambda f: f[:, ::-1, ::-1])
    ),
    "one view late": Fault(rule="view_out_of_step", smallest="2 frames", apply=lambda m: _late(m, (HIGH,), 2)),
    "every view late": Fault(rule="video_out_of_step", smallest="2 frames", apply=lambda m: _late(m, VIEWS, 2)),
    "video of another episode": Fault(
        rule="duplicate_video", smallest="all views", apply=lambda m: _copy(m, motion=False, video=True)
    ),
    "state in degrees": Fault(rule="unit_degrees", smallest="one column", apply=lambda m: _degrees(m, "state")),
    "action in degrees": Fault(rule="unit_degrees", smallest="one column", apply=lambda m: _degrees(m, "action")),
    "state in encoder ticks": Fault(rule="unit_ticks", smallest="one column", apply=_ticks),
    "pose in millimetres": Fault(
        rule="unit_millimetres",
        smallest="one hand",
        apply=lambda m: m.eef.__setitem__((slice(None), slice(0, 3)), 250.0),
    ),
    "quaternion not normal": Fault(
        rule="quaternion", smallest="length 1.06", apply=lambda m: m.eef.__setitem__((5, 3), 1.06)
    ),
    "action beyond a joint's limit": Fault(
        rule="action_limits", smallest="0.06 rad", apply=lambda m: _raise_to(m, 2, ELBOW_LIMIT + 0.06)
    ),
    "state beyond a joint's limit": Fault(rule="state_limits", smallest="0.33 rad", apply=_state_limit),
    "spike in the action": Fault(
        rule="action_spike", smallest="0.22 rad, 1 frame", apply=lambda m: _spike(m.action, 3, 0.22)
    ),
    "spike in the state": Fault(
        rule="state_spike", smallest="0.45 rad, 1 frame", apply=lambda m: _spike(m.state, 3, 0.45)
    ),
    "action jumps": Fault(
        rule="action_velocity", smallest="6.1 rad/s", apply=lambda m: _step(m.action, 0, 6, len(m.action) - 8)
    ),
    "state jumps": Fault(
        rule="state_velocity", smallest="10.2 rad/s", apply=lambda m: _step(m.state, 0, 10, len(m.state) - 8)
    ),
    "action swings hard": Fault(
        rule="action_acceleration", smallest="104 rad/s2", apply=lambda m: _shake(m, 3, 0.32, 2.24)
    ),
    "action shakes": Fault(rule="action_jerk", smallest="1,600 rad/s3", apply=lambda m: _shake(m, 3, 0.2, np.pi)),
    "state late": Fault(rule="state_lags_action", smallest="0.4 s", apply=lambda m: _shift_action(m, 3)),
    "state early": Fault(rule="state_leads_action", smallest="1 frame", apply=lambda m: _shift_action(m, -2)),
    "joint's zero moved": Fault(
        rule="tracking_offset",
        smallest="0.37 rad",
        apply=lambda m: m.state.__setitem__((slice(None), 4), m.state[:, 4] + 0.37),
    ),
    "joint's sign reversed": Fault(
        rule="joint_sign",
        smallest="one joint",
        apply=lambda m: m.action.__setitem__((slice(None), 1), -m.action[:, 1]),
    ),
    "encoder dead": Fault(
        rule="joint_stuck", smallest="one joint", apply=lambda m: m.state.__setitem__((slice(None), 8), m.state[0, 8])
    ),
    "state not read for a while": Fault(
        rule="state_frozen", smallest="1 s", apply=lambda m: m.state.__setitem__(slice(20, 31), m.state[20])
    ),
    "action not recorded for a while": Fault(
        rule="action_frozen", smallest="2 s", apply=lambda m: m.action.__setitem__(slice(15, 36), m.action[15])
    ),
    "nothing moves": Fault(rule="static_episode", smallest="the whole episode", apply=_rest),
    "waits before it starts": Fault(rule="static_head", smallest="3.2 s", apply=lambda m: None, still=(32, 0)),
    "waits at the end": Fault(rule="static_tail", smallest="3.2 s", apply=lambda m: None, still=(0, 33)),
    "gripper in per cent": Fault(
        rule="gripper_range", smallest="one column", apply=lambda m: _both(m, GRIPPERS, lambda v: 100 * v)
    ),
    "gripper's sign in the action": Fault(
        rule="gripper_sign",
        smallest="one gripper",
        apply=lambda m: m.action.__setitem__((slice(None), 13), 1 - m.action[:, 13]),
    ),
    "gripper inverted": Fault(
        rule="gripper_inverted", smallest="one gripper", apply=lambda m: _both(m, 13, lambda v: 1 - v)
    ),
    "episode twice": Fault(
        rule="duplicate_episode", smallest="all columns", apply=lambda m: _copy(m, motion=True, video=True)
    ),
    "episode twice with noise": Fault(
        rule="near_duplicate",
        smallest="noise of 0.001 rad",
        apply=lambda m: _copy(m, motion=True, video=False, noise=0.001),
    ),
    "text too long": Fault(
        rule="task_too_long", smallest="301 characters", apply=lambda m: setattr(m, "task", "lift it " * 38)
    ),
    "text is no sentence": Fault(
        rule="task_too_short", smallest="1 word", apply=lambda m: setattr(m, "task", "task_1")
    ),
    "text is broken": Fault(
        rule="task_characters", smallest="1 character", apply=lambda m: setattr(m, "task", "lift the \ufffd cube")
    ),
}
