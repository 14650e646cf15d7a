"""An episode as one video that any browser plays: its views side by side, a frame a step."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

HEIGHT = 240  # pixels; even, as H.264's chroma asks for


def write_clip(dataset: "LeRobotDataset", episode: int, path: Path) -> None:
    """Writes an MP4 (H.264, 4:2:0) with as many frames as the episode has, at the dataset's rate.

    Raises:
        UserError: a frame does not decode.
    """
    import av

    unfinished = path.with_name(f".{path.name}.unfinished")
    with av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(dataset.info.fps).limit_denominator(1001)
        stream = None
        for picture in _side_by_side(dataset, episode):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    unfinished.replace(path)


def _side_by_side(dataset: "LeRobotDataset", episode: int) -> Iterator[np.ndarray]:
    views = [dataset.frames(episode, camera) for camera in dataset.cameras]
    for pictures in zip(*views, strict=True):
        yield np.concatenate([_scaled(picture) for picture in pictures], axis=1)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    height, width = pixels.shape[:2]
    wide = max(2, round(width * HEIGHT / height / 2) * 2)
    return np.asarray(Image.fromarray(pixels).resize((wide, HEIGHT)))
