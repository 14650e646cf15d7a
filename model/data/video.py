"""Frames of a video by their exact position, over PyAV.

Position k is the k-th frame in presentation order. It is found through the container's own list of packets, not through
a frame rate, so a rounded time base, a gap or an edit list cannot shift a frame against its row in the table.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

SEEK_BEYOND = 8  # frames: reading on over fewer is cheaper than a seek, which flushes the decoder


class VideoError(Exception):
    """A video that cannot be read; the message has no path, whoever knows the dataset adds it.

    Attributes:
        position: of the frame that the message is about, None when it is about the whole file.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"frame {position} {message}")
        self.message = message
        self.position = position

    def counted_from(self, first: int) -> "VideoError":
        """The same error with frames counted from `first`: a file of many episodes has a frame 0 for each."""
        return self if self.position is None else VideoError(self.message, self.position - first)


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What a container says of its first video stream. `times` (s) are relative to the first frame."""

    codec: str
    width: int
    height: int
    rate: float
    pts: np.ndarray
    key_pts: np.ndarray
    times: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.pts)


class Video:
    """One video file. Opens it for each pass, so that nothing stays open between calls.

    Args:
        source: called for each pass; gives a path or a seekable file object.
    """

    def __init__(self, source: Callable[[], "str | BinaryIO"]) -> None:
        self._source = source

    @cached_property
    def facts(self) -> VideoFacts:
        """Reads the packets' headers without decoding: 5 to 10 microseconds a frame from a local disk."""
        with _Opened(self._source) as (container, stream):
            pts, keys = [], []
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        raise VideoError("its packets carry no presentation time")
                    pts.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
            if not pts:
                raise VideoError("it holds no frame")
            ordered = np.array(sorted(pts), dtype=np.int64)
            if len(np.unique(ordered)) != len(ordered):
                raise VideoError("two of its frames have the same presentation time")
            return VideoFacts(
                codec=stream.codec_context.codec.canonical_name,
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                rate=float(stream.average_rate or 0),
                pts=ordered,
                key_pts=np.array(sorted(keys), dtype=np.int64),
                times=(ordered - ordered[0]) * float(stream.time_base),
            )

    def span(self, start: float | None, end: float | None, fps: float) -> tuple[int, int]:
        """First position and one past the last of the frames in [start, end) seconds, to the nearest frame."""
        times, half = self.facts.times, 0.5 / fps
        first = 0 if start is None else int(np.searchsorted(times, start - half))
        last = len(times) if end is None else int(np.searchsorted(times, end - half))
        return first, max(first, last)

    def read(self, positions: Sequence[int], pixel_format: str) -> Iterator[np.ndarray]:
        """Frames at `positions`, in the order asked for, as arrays of `pixel_format` ('rgb24', 'gray16le')."""
        from av.video.reformatter import VideoReformatter

        # One converter a pass and one thread: a frame's own converter starts threads for each frame, which took 1.5 ms
        # of 1.6 at 112 px on two busy cores.
        converter = VideoReformatter()
        for frame in self._decode(positions):
            yield converter.reformat(frame, format=pixel_format, threads=1).to_ndarray()

    def decoded(self, first: int, last: int) -> Iterator[Any]:
        """The frames [first, last) as PyAV gives them (`av.VideoFrame`): planes as stored, nothing is converted."""
        return self._decode(range(first, last))

    def check(self, first: int, last: int, stride: int = 1) -> None:
        """Decodes [first, last), every `stride`-th frame and the last, and converts nothing.

        Raises:
            VideoError: names the first position that does not decode.
        """
        for _ in self._decode(sorted({*range(first, last, stride), *range(max(first, last - 1), last)})):
            pass

    def _decode(self, positions: Sequence[int]) -> Iterator[Any]:
        import av

        facts = self.facts
        with _Opened(self._source) as (container, stream):
            packets = _Packets(container, stream)
            frames: Iterator[Any] = iter(())
            frame: Any = None
            before = -2
            for position in positions:
                if not 0 <= position < facts.frames:
                    raise VideoError(f"is asked for, it has {facts.frames}", position)
                wanted = int(facts.pts[position])
                skippable = int(facts.pts[max(0, position - SEEK_BEYOND)])
                following = position == before + 1
                before = position
                packets.key = self._keyframe_before(wanted)
                try:
                    near = frame is not None and (following or self._keyframe_before(skippable) <= frame.pts)
                    if near:
                        frame = _first_at(wanted, frame, frames)
                    if not near or frame is None or frame.pts > wanted or frame.is_corrupt:
                        # also where it lies before, or a key frame gone on to was none to begin with (intra refresh)
                        frames, frame = self._seek(packets, wanted)
                        frame = _first_at(wanted, frame, frames)
                except av.FFmpegError as error:
                    raise VideoError(f"does not decode ({error.strerror})", position) from error
                if frame is None:
                    raise VideoError("cannot be reached: the video ends before it", position)
                if frame.pts != wanted or frame.is_corrupt:
                    raise VideoError("does not decode (its data is damaged or absent)", position)
                yield frame

    def _seek(self, packets: "_Packets", wanted: int) -> tuple[Iterator[Any], Any]:
        frames = packets.decoded_from(packets.key)
        frame = next(frames, None)
        if frame is not None and frame.pts > wanted:
            # some containers index by decode time and land one key frame too late
            frames = packets.decoded_from(int(self.facts.pts[0]))
            frame = next(frames, None)
        return frames, frame

    def _keyframe_before(self, pts: int) -> int:
        keys = self.facts.key_pts
        return int(keys[max(0, int(np.searchsorted(keys, pts, side="right")) - 1)]) if len(keys) else pts


def _first_at(wanted: int, frame: Any, frames: Iterator[Any]) -> Any:
    """The first of `frame` and then `frames` that is shown at `wanted` or later; None where they end before."""
    while frame is not None and frame.pts < wanted:
        frame = next(frames, None)
    return frame


class _Packets:
    """The packets of a stream. Those before the key frame that a wanted frame begins with are read, and not decoded.

    Attributes:
        key: presentation time of that key frame.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.key = 0

    def decoded_from(self, pts: int) -> Iterator[Any]:
        """The frames from the key frame at or before `pts`, in order, but for those that were passed over."""
        self._container.seek(pts, stream=self._stream, backward=True)
        reached, passed_over = self.key, False
        for packet in self._container.demux(self._stream):
            if packet.size and self.key > reached:
                if not (packet.is_keyframe and packet.pts >= self.key):
                    passed_over = True
                    continue
                if passed_over:  # what the decoder still holds belongs to frames before
                    self._stream.codec_context.flush_buffers()
                    passed_over = False
            if packet.is_keyframe and packet.size:
                reached = max(reached, packet.pts)
            yield from packet.decode()


class _Opened:
    """A container and its first video stream, closed at the end; a failure to open is a VideoError."""

    def __init__(self, source: Callable[[], "str | BinaryIO"]) -> None:
        self._source = source

    def __enter__(self) -> tuple[Any, Any]:
        import av

        self._file = self._source()
        try:
            self._container = av.open(self._file)
        except (av.FFmpegError, OSError) as error:
            self._close_file()
            raise VideoError(f"it cannot be opened as a video ({error.strerror})") from error
        if not self._container.streams.video:
            self.__exit__()
            raise VideoError("it holds no video stream")
        stream = self._container.streams.video[0]
        # One thread: a pack step runs one process a core, and threads of small frames wait longer than they work.
        stream.codec_context.thread_count = 1
        return self._container, stream

    def __exit__(self, *_: object) -> None:
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if not isinstance(self._file, str):
            self._file.close()


def decode_image(data: bytes) -> np.ndarray:
    """A PNG or JPEG as uint8 [H, W, 3]."""
    return next(Video(lambda: BytesIO(data)).read([0], "rgb24"))
