"""Where an episode is shown: a video file, or a window."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from model.simulation.environment import CONTROL_HZ, Simulation
from model.simulation.scene import load_mujoco

if TYPE_CHECKING:
    from model.simulation.robot import Screen, Showing

VIDEO_FPS = 25
END_SECONDS = 1.0
"""How long the end of an episode stays."""
_CLOSE_SECONDS = 5.0
_H264 = {"preset": "veryfast", "crf": "20"}


@contextmanager
def open_screen(simulation: Simulation, video: Path | None) -> Iterator["Screen"]:
    """A video file at `video`, or a window for None.

    Raises:
        UserError: the file cannot be written, or there is no screen.
    """
    if video is None:
        with _window(simulation) as window:
            yield window
    else:
        with _film(simulation, video) as film:
            yield film


class Film:
    """Writes every second tick of an episode as a frame: 25 a second, in the simulation's own time."""

    def __init__(self, simulation: Simulation, container: Any) -> None:
        from model.simulation.spectator import Spectator

        self._spectator = Spectator(simulation)
        self._out = container
        self._stream: Any = None
        self._ticks = self._frames = 0

    def tick(self, showing: "Showing") -> None:
        self._ticks += 1
        if self._ticks % (CONTROL_HZ // VIDEO_FPS) == 0:
            self._write(showing, 1)

    def end(self, showing: "Showing") -> None:
        self._write(showing, round(END_SECONDS * VIDEO_FPS))

    def _write(self, showing: "Showing", times: int) -> None:
        import av

        frame = self._spectator.frame(showing.views, showing.text(), showing.checkpoints())
        if self._stream is None:
            self._stream = self._out.add_stream("libx264", rate=VIDEO_FPS, options=_H264)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, VIDEO_FPS)
        for _ in range(times):
            encoded = av.VideoFrame.from_ndarray(frame, format="rgb24")
            encoded.pts = self._frames
            self._frames += 1
            self._out.mux(self._stream.encode(encoded))

    def close(self) -> None:
        if self._stream is not None:
            self._out.mux(self._stream.encode())
        self._spectator.close()


@contextmanager
def _film(simulation: Simulation, path: Path) -> Iterator[Film]:
    import av

    try:
        container = av.open(str(path), "w", format="mp4")
    except OSError as error:
        raise UserError(f"--video {path} cannot be written ({error}): name a file in a folder that exists") from error
    with container:
        film = Film(simulation, container)
        try:
            yield film
        finally:
            film.close()


class Window:
    """MuJoCo's own viewer, in the time of the clock on the wall."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._next = time.monotonic()

    def tick(self, showing: "Showing") -> None:
        if not self._viewer.is_running():
            raise UserError("the window was closed")
        self._viewer.sync()
        # What the policy needs for its answer is seen as a stop; the clock is not caught up with.
        self._next = max(self._next + 1 / CONTROL_HZ, time.monotonic())
        time.sleep(max(0.0, self._next - time.monotonic()))

    def end(self, showing: "Showing") -> None:
        time.sleep(END_SECONDS)


@contextmanager
def _window(simulation: Simulation) -> Iterator[Window]:
    load_mujoco()
    from mujoco import viewer

    from model.simulation.spectator import aim

    before = set(threading.enumerate())
    try:
        opened = viewer.launch_passive(*simulation.scene, show_left_ui=False, show_right_ui=False)
    except RuntimeError as error:
        raise UserError(f"no window can be opened ({error}): write a video with --video FILE") from error
    try:
        with opened:
            aim(opened.cam)
            yield Window(opened)
    finally:
        # The viewer's thread still holds its OpenGL context when `close` returns: ending before it crashes.
        for thread in set(threading.enumerate()) - before:
            thread.join(_CLOSE_SECONDS)
