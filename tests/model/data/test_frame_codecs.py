"""Codecs of packed frames: what comes back, that the fast JPEG decoder is Pillow's twin, and damage."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from model.data.frame_codecs import CODECS, DAMAGED, Jpeg, frame_codec
from model.errors import UserError

SIZE = 48


def pictures(count: int) -> list[np.ndarray]:
    """Smooth colours that move."""
    ramp = np.linspace(0, 200, SIZE)
    base = np.stack([ramp[None, :] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp[None, :], 0 * ramp[:, None] + ramp], 2)
    return [np.roll(base, 3 * shift, axis=1).astype(np.uint8) for shift in range(count)]


def encoded(name: str, images: list[np.ndarray]) -> tuple:
    codec = frame_codec(name, jpeg_quality=95, video_crf=12)
    encode = codec.encoder(SIZE)
    return codec, [encode(image) for image in images]


def decoded(codec, data: list[bytes], frame: int) -> np.ndarray:
    target = np.zeros((SIZE, SIZE, 3), np.uint8)
    codec.decode(data[frame - frame % codec.group : frame + 1], target)
    return target


@pytest.mark.parametrize(("name", "largest_mean_error"), [("jpeg", 2.0), ("uint8", 0.0), ("h264", 4.0)])
def test_frames_come_back_in_any_order(name: str, largest_mean_error: float) -> None:
    images = pictures(7)
    codec, data = encoded(name, images)
    for frame in (5, 0, 6, 3, 2, 1, 4, 4):
        assert np.abs(decoded(codec, data, frame).astype(int) - images[frame]).mean() <= largest_mean_error


@pytest.mark.parametrize("name", CODECS)
def test_equal_frames_give_equal_bytes(name: str) -> None:
    assert encoded(name, pictures(4))[1] == encoded(name, pictures(4))[1]


def test_a_group_of_the_video_is_two_frames() -> None:
    """The second frame of a group cannot be decoded without the first, the first can on its own."""
    codec, data = encoded("h264", pictures(4))
    assert codec.group == 2 and len(data[2]) > len(data[3])
    target = np.zeros((SIZE, SIZE, 3), np.uint8)
    codec.decode([data[2]], target)
    with ThreadPoolExecutor(1) as fresh, pytest.raises(DAMAGED):
        fresh.submit(codec.decode, [data[3]], target).result()


def test_the_jpeg_decoder_gives_pillows_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    codec, data = encoded("jpeg", [noise, *pictures(3)])
    for frame, stored in enumerate(data):
        assert (decoded(codec, data, frame) == np.asarray(Image.open(io.BytesIO(stored)))).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_cut_bytes_are_refused_and_the_next_frame_is_right(name: str, keep: float) -> None:
    images = pictures(4)
    codec, data = encoded(name, images)
    with pytest.raises(DAMAGED):
        codec.decode([data[2][: int(keep * len(data[2]))]], np.zeros((SIZE, SIZE, 3), np.uint8))
    assert (decoded(codec, data, 2) == decoded(*encoded(name, images), 2)).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("more", [-8, 8])
def test_another_size_is_refused(name: str, more: int) -> None:
    codec, data = encoded(name, pictures(1))
    with pytest.raises(ValueError, match="not|too small"):
        codec.decode(data, np.zeros((SIZE + more, SIZE, 3), np.uint8))


@pytest.mark.parametrize("name", CODECS)
def test_threads_decode_beside_each_other(name: str) -> None:
    codec, data = encoded(name, pictures(6))
    alone = [decoded(codec, data, frame) for frame in range(6)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda frame: decoded(codec, data, frame % 6), range(60)))
    assert all((image == alone[frame % 6]).all() for frame, image in enumerate(together))


def test_quality_is_the_encoders() -> None:
    (picture,) = pictures(1)
    assert len(Jpeg(95).encoder(SIZE)(picture)) > len(Jpeg(50).encoder(SIZE)(picture))


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(UserError, match="unknown frame codec 'jpg'.*Did you mean 'jpeg'"):
        frame_codec("jpg", jpeg_quality=95, video_crf=18)
