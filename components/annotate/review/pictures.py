"""Frames for the page: decoded when asked for, a block of neighbours at a time, as small JPEGs."""

import io
import json
import struct
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from model.errors import UserError

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

BLOCK = 24  # frames: near a keyframe interval of LeRobot's videos (2) times a second of play
LONGEST_SIDE = 480  # pixels; three views of it fill a wide screen
JPEG_QUALITY = 85
KEPT_BYTES = 256 * 2**20  # about 15,000 frames of 480 x 360


class Pictures:
    """Blocks of frames, the ones asked for last kept in memory.

    Args:
        kept_bytes: at most so much is kept.
    """

    def __init__(self, dataset: "LeRobotDataset", kept_bytes: int = KEPT_BYTES) -> None:
        self._dataset = dataset
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[int, str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def block(self, episode: int, camera: str, number: int) -> bytes:
        """Frames [number * BLOCK, ...) of one view.

        Returns:
            4 bytes (little-endian) that say how long the JSON after them is: {"sizes": [bytes of each JPEG, 0 where
            it does not decode], "errors": {place in the block: why}}; then the JPEGs.

        Raises:
            UserError: no such episode, camera or block.
        """
        key = (episode, camera, number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._make(episode, camera, number)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > self._kept_bytes and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def _make(self, episode: int, camera: str, number: int) -> bytes:
        length, camera = self._dataset.episode(episode).length, self._dataset.camera(camera)
        wanted = range(number * BLOCK, min(length, (number + 1) * BLOCK))
        if number < 0 or not wanted:
            raise UserError(f"block {number} of episode {episode} is asked for: it has {-(-length // BLOCK)}.")
        errors: dict[int, str] = {}
        try:
            jpegs = [_jpeg(pixels) for pixels in self._dataset.frames(episode, camera, wanted)]
        except UserError:
            jpegs = []
            for place, frame in enumerate(wanted):  # each by itself: the others of the block are shown
                try:
                    (pixels,) = self._dataset.frames(episode, camera, [frame])
                    jpegs.append(_jpeg(pixels))
                except UserError as error:
                    errors[place] = str(error)
                    jpegs.append(b"")
        head = json.dumps({"sizes": [len(jpeg) for jpeg in jpegs], "errors": errors}).encode()
        return b"".join([struct.pack("<I", len(head)), head, *jpegs])


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
