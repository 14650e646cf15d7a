"""How packed frames are stored: one name, one way to bytes and back (`meta.json` says which).

name    bytes of a 224 px frame     reading, CPU ms a frame     what for
jpeg    5 to 26 KB (q95, 4:4:4)     0.2 to 0.7                  the default: small enough, every frame on its own
uint8   147 KB                      0.1 to 0.2                  when the disk is large and the cores are few
h264    3 to 6 KB (crf 18, 4:4:4)   1.1 to 1.9                  when the disk is dear; GOP 2

From a simulated kitchen on an idle core to tests/benchmarks/loader.py on busy ones (AVX2).
"""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from model.errors import UserError, unknown_name

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

CODECS = ("jpeg", "uint8", "h264")
H264_PIXELS = "yuv444p"  # as the JPEGs are: halved colour would blur a coloured cube of a few pixels
DAMAGED = (OSError, ValueError)
"""What decoding raises on bytes that are no image."""

Encoder = Callable[[np.ndarray], bytes]
Bytes = bytes | memoryview


class FrameCodec(Protocol):
    """A frame codec. `group` frames share a key frame: to decode one, those before it in its group are needed too."""

    @property
    def group(self) -> int: ...

    def encoder(self, size: int) -> Encoder:
        """Takes the uint8 [size, size, 3] frames of one view of one episode in order; gives the bytes of each."""

    def decode(self, chunks: Sequence[Bytes], target: np.ndarray) -> None:
        """Decode the last of `chunks` (key frame first) into `target` uint8 [H, W, 3]. One of DAMAGED if it cannot."""


def frame_codec(name: str, *, jpeg_quality: int, video_crf: int) -> FrameCodec:
    """The codec of that name. UserError for an unknown one."""
    if name == "jpeg":
        return Jpeg(jpeg_quality)
    if name == "uint8":
        return Raw()
    if name == "h264":
        return H264(video_crf)
    raise unknown_name("frame codec", name, CODECS)


@dataclass(frozen=True)
class Jpeg:
    """JPEG, 4:4:4. Pillow writes; simplejpeg reads: 0.37 instead of 0.57 ms a frame, the same pixels, and no stream."""

    quality: int
    group: int = 1

    def encoder(self, size: int) -> Encoder:
        return lambda image: encode_jpeg(image, self.quality)

    def decode(self, chunks: Sequence[Bytes], target: np.ndarray) -> None:
        import simplejpeg

        # ValueError where the target is too small; a larger one is filled in part
        height, width = simplejpeg.decode_jpeg(chunks[-1], buffer=target).shape[:2]
        if (height, width) != target.shape[:2]:
            raise ValueError(f"it is {width}x{height} px, not {target.shape[1]}x{target.shape[0]}")


@dataclass(frozen=True)
class Raw:
    """The pixels as they are."""

    group: int = 1

    def encoder(self, size: int) -> Encoder:
        return lambda image: np.ascontiguousarray(image).tobytes()

    def decode(self, chunks: Sequence[Bytes], target: np.ndarray) -> None:
        pixels = np.frombuffer(chunks[-1], np.uint8)
        if pixels.size != target.size:
            raise ValueError(f"it has {pixels.size} bytes, not {target.size}")
        np.copyto(target, pixels.reshape(target.shape))


@dataclass(frozen=True)
class H264:
    """H.264 packets without a container: a key frame with its headers, then one frame predicted from it.

    The encoder runs on one thread without look-ahead, so its bytes depend on the frames alone.
    """

    crf: int
    group: int = 2

    def encoder(self, size: int) -> Encoder:
        import av
        from av.video.reformatter import VideoReformatter

        codec = av.CodecContext.create("libx264", "w")
        codec.width = codec.height = size
        codec.pix_fmt, codec.thread_count = H264_PIXELS, 1
        codec.time_base, codec.framerate = Fraction(1, 30), Fraction(30)
        codec.options = {
            "crf": str(self.crf),
            "preset": "medium",
            "tune": "zerolatency",
            "x264-params": f"keyint={self.group}:min-keyint={self.group}:scenecut=0:bframes=0:threads=1"
            ":repeat-headers=1:annexb=1",
        }
        converter, count = VideoReformatter(), 0

        def encode(image: np.ndarray) -> bytes:
            nonlocal count
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = converter.reformat(rgb, format=H264_PIXELS, threads=1)
            frame.pts, frame.time_base = count, Fraction(1, 30)
            count += 1
            (packet,) = codec.encode(frame)
            return bytes(packet)

        return encode

    def decode(self, chunks: Sequence[Bytes], target: np.ndarray) -> None:
        import av

        codec, converter = _decoder_of_thread()
        frame = None
        try:
            for chunk in chunks:
                frame = next(iter(codec.decode(av.Packet(bytes(chunk)))), None)
            if frame is None or frame.is_corrupt:
                raise ValueError("its packet gives no frame")
        except (av.FFmpegError, ValueError) as error:
            _decoders.__dict__.clear()  # what a damaged packet leaves in a decoder would spoil the next frame
            raise ValueError(str(error)) from error
        pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        if pixels.shape != target.shape:
            raise ValueError(f"it is {pixels.shape[1]}x{pixels.shape[0]} px, not {target.shape[1]}x{target.shape[0]}")
        np.copyto(target, pixels)


_decoders = threading.local()  # a decoder has a state, and making one takes longer than a frame


def _decoder_of_thread() -> tuple[Any, "VideoReformatter"]:
    import av
    from av.video.reformatter import VideoReformatter

    if "pair" not in _decoders.__dict__:
        codec = av.CodecContext.create("h264", "r")
        codec.thread_count = 1
        codec.options = {"err_detect": "explode"}
        _decoders.pair = codec, VideoReformatter()
    return _decoders.pair


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """JPEG of uint8 [H, W, 3]. 4:4:4: halved colour would blur a coloured cube of a few pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def check_quality(jpeg_quality: int, video_crf: int) -> None:
    """UserError for a quality that no encoder takes."""
    if not 1 <= jpeg_quality <= 100:
        raise UserError(f"jpeg_quality is {jpeg_quality}: it must be 1 to 100.")
    if not 1 <= video_crf <= 51:
        raise UserError(f"video_crf is {video_crf}: it must be 1 (best) to 51.")
