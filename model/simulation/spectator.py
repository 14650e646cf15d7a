"""What a person sees: both arms from in front of the table, the policy's own views beside them, and a line of text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.simulation.environment import Simulation
from model.simulation.rendering import RGBDRenderer
from model.simulation.scene import load_mujoco

if TYPE_CHECKING:
    import mujoco

WIDTH, HEIGHT = 640, 480
_VIEWS, _TEXT = 160, 64  # width of the column of the policy's views, height of the text: pixels
_LOOK_AT, _DISTANCE, _AZIMUTH, _ELEVATION = (0.0, 0.47, 0.12), 1.35, 90.0, -32.0
# The scene is lit for the policy's cameras, which it must not be changed for: the picture is brightened afterwards.
_BRIGHTER = (255 * (np.arange(256) / 255) ** 0.6).astype(np.uint8)
_BACKGROUND = (222, 228, 235)
_PAPER, _INK, _MUTED, _DONE = (250, 250, 248), (25, 28, 33), (120, 125, 133), (20, 120, 70)


def aim(camera: "mujoco.MjvCamera") -> None:
    """Puts a free camera in front of the table."""
    camera.lookat[:] = _LOOK_AT
    camera.distance, camera.azimuth, camera.elevation = _DISTANCE, _AZIMUTH, _ELEVATION


class Spectator:
    """Draws frames uint8 [544, 800, 3] of a simulation. Holds an OpenGL context: close it after.

    Raises:
        UserError: no EGL device with a driver.
    """

    def __init__(self, simulation: Simulation) -> None:
        mj = load_mujoco()
        model, self._data = simulation.scene
        buffer = model.vis.global_
        buffer.offwidth, buffer.offheight = max(WIDTH, buffer.offwidth), max(HEIGHT, buffer.offheight)
        self._renderer = RGBDRenderer(model, WIDTH, HEIGHT)
        self._camera = mj.MjvCamera()
        self._camera.type = mj.mjtCamera.mjCAMERA_FREE
        aim(self._camera)

    def frame(
        self, views: Mapping[str, np.ndarray], text: Sequence[str], checkpoints: Sequence[tuple[str, bool]]
    ) -> np.ndarray:
        """The scene as it is now.

        Args:
            views: what the policy last saw, by camera; the first three are shown.
            text: two lines.
            checkpoints: the task's, in order, and whether each is passed.
        """
        from PIL import Image, ImageDraw, ImageFont

        colour, depth = self._renderer.render(self._data, self._camera, True)
        assert depth is not None
        scene = np.where((depth == 0)[..., None], np.array(_BACKGROUND, np.uint8), _BRIGHTER[colour])
        canvas = Image.new("RGB", (WIDTH + _VIEWS, HEIGHT + _TEXT), _PAPER)
        canvas.paste(Image.fromarray(scene), (0, 0))
        for number, image in enumerate(list(views.values())[:3]):
            shown = Image.fromarray(_BRIGHTER[image]).resize((_VIEWS, _VIEWS))
            canvas.paste(shown, (WIDTH, _VIEWS * number))
        draw, font, small = ImageDraw.Draw(canvas), ImageFont.load_default(17), ImageFont.load_default(13)
        for number, name in enumerate(list(views)[:3]):
            draw.text((WIDTH + 6, _VIEWS * number + 4), name, fill=_PAPER, font=small)
        draw.text((12, HEIGHT + 8), text[0], fill=_INK, font=font)
        draw.text((12, HEIGHT + 36), text[1], fill=_MUTED, font=small)
        right = WIDTH + _VIEWS - 12.0
        for name, passed in reversed(checkpoints):
            right -= draw.textlength(name, font=small)
            draw.text((right, HEIGHT + 36), name, fill=_DONE if passed else _MUTED, font=small)
            right -= 20
            if passed:
                mark = [(right + 6, HEIGHT + 45), (right + 9, HEIGHT + 49), (right + 16, HEIGHT + 40)]
                draw.line(mark, fill=_DONE, width=2)
            right -= 4
        return np.asarray(canvas)

    def close(self) -> None:
        self._renderer.close()
