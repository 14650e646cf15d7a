"""Off-screen rendering of colour and metric depth in one pass.

`mujoco.Renderer` draws the scene twice for colour and depth; here both are read back from one drawing, which halves
the time of an RGB-D view.
"""

import atexit
import weakref
from typing import TYPE_CHECKING

import numpy as np

from model.simulation.scene import load_mujoco, missing_egl

if TYPE_CHECKING:
    import mujoco

FAR = 5.0
"""Depth beyond this is background (the far plane reads 82 m) and reported as 0, no return. Metres."""


class RGBDRenderer:
    """Draws images of one model. Holds an OpenGL context: use it in the thread that made it, close it after.

    Args:
        model: its off-screen buffer (`vis.global_`) is at least as large as the images.
        image_size: side of square images, pixels; their width when a height is given.
        height: of the images.

    Raises:
        UserError: no EGL device with a driver.
    """

    def __init__(self, model: "mujoco.MjModel", image_size: int, height: int | None = None) -> None:
        height = image_size if height is None else height
        mj = load_mujoco()
        self._mj = mj
        self._model = model
        try:
            self._gl = mj.GLContext(image_size, height)
            self._gl.make_current()
            self._context = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_100.value)
        except (ImportError, RuntimeError, mj.FatalError) as error:
            raise missing_egl(error) from error
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mj.MjvScene(model, maxgeom=100)
        self._scene.flags[mj.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mj.mjtRndFlag.mjRND_REFLECTION] = False
        self._options = mj.MjvOption()
        self._camera = mj.MjvCamera()
        self._camera.type = mj.mjtCamera.mjCAMERA_FIXED
        self._rectangle = mj.MjrRect(0, 0, image_size, height)
        self._rgb = np.empty((height, image_size, 3), np.uint8)
        self._z = np.empty((height, image_size), np.float32)
        near = model.vis.map.znear * model.stat.extent
        far = model.vis.map.zfar * model.stat.extent
        self._free = weakref.finalize(self, _free, self._context, self._gl)
        # A context that outlives its display prints a traceback when the interpreter ends. The display's end was
        # registered with the first context, the finalizers' perhaps before it, by any of them: then they come too late.
        atexit.register(self._free)
        self._inverse_depth = (1 / near - 1 / far, 1 / far)

    def render(
        self, data: "mujoco.MjData", camera: "str | mujoco.MjvCamera", depth: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour uint8 [H,W,3] and, when asked, depth float32 [H,W] in metres along the axis (0 = no return).

        `camera` is one of the model's by its name, or one that stands anywhere.
        """
        mj = self._mj
        self._gl.make_current()
        if isinstance(camera, str):
            self._camera.fixedcamid = self._model.camera(camera).id
            camera = self._camera
        mj.mjv_updateScene(self._model, data, self._options, None, camera, mj.mjtCatBit.mjCAT_ALL.value, self._scene)
        mj.mjr_render(self._rectangle, self._scene, self._context)
        mj.mjr_readPixels(self._rgb, self._z if depth else None, self._rectangle, self._context)
        rgb = self._rgb[::-1].copy()
        if not depth:
            return rgb, None
        # Reversed z: the buffer holds 1 at the near plane and 0 at the far plane, linear in 1/depth.
        scale, offset = self._inverse_depth
        metres = (1 / (self._z[::-1].astype(np.float64) * scale + offset)).astype(np.float32)
        metres[metres > FAR] = 0.0
        return rgb, metres

    def close(self) -> None:
        """Free the OpenGL context. The renderer cannot be used afterwards."""
        self._free()
        atexit.unregister(self._free)


def _free(context: "mujoco.MjrContext", gl: "mujoco.GLContext") -> None:
    context.free()
    gl.free()
