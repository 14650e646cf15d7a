"""Frames by their position, of any codec: those read here and there are those of reading all, and cost no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.data.video import Video

FRAMES, SIZE = 48, 64
X264 = {"preset": "ultrafast", "tune": "psnr"}
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "two a group": ("libx264", X264 | {"g": "2", "bf": "0"}),  # as lerobot writes them
    "every frame a key": ("libx264", X264 | {"g": "1"}),
    "frames that refer to later ones": ("libx264", X264 | {"g": "10", "bf": "3"}),
    "open groups": ("libx264", X264 | {"x264-params": "keyint=8:min-keyint=8:open-gop=1:bframes=3:scenecut=0"}),
    "intra refresh": ("libx264", X264 | {"x264-params": "keyint=10:intra-refresh=1:bframes=0"}),
    "AV1": ("libsvtav1", {"g": "2", "preset": "12", "svtav1-params": "lp=1"}),
}


@pytest.fixture(scope="module", params=[(kind, suffix) for kind in KINDS for suffix in ("mp4", "mkv")], ids="-".join)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, suffix = request.param
    codec, options = KINDS[kind]
    file = tmp_path_factory.mktemp("video") / f"video.{suffix}"
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    with av.open(file, "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, 3 * number, 1), format="rgb24")))
        container.mux(stream.encode())
    return file


def read(path: Path, positions: Any) -> list[bytes]:
    return [frame.tobytes() for frame in Video(lambda: str(path)).read(positions, "rgb24")]


def test_frames_read_here_and_there_are_those_of_reading_all(path: Path) -> None:
    every = read(path, range(FRAMES))
    assert len(set(every)) == FRAMES
    draw = np.random.default_rng(1)
    apart = [list(range(first, FRAMES, stride)) for stride in (2, 3, 5, 9, 20) for first in (0, 1, stride - 1)]
    drawn = [sorted(draw.choice(FRAMES, 6, replace=False).tolist()) for _ in range(4)]
    turned = [[30, 31, 4, 4, 47, 0], [FRAMES - 1], [11, 12, 13, 40]]
    for positions in apart + drawn + turned:
        assert read(path, positions) == [every[position] for position in positions], positions


class Counting:
    """A container whose packets count how many of them are decoded."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: Any) -> Iterator[Any]:
        for packet in self._container.demux(stream):
            yield CountingPacket(packet, self)


class CountingPacket:
    def __init__(self, packet: Any, container: Counting) -> None:
        self._packet, self._of = packet, container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def decode(self) -> list[Any]:
        self._of.decoded += 1
        return self._packet.decode()


@pytest.mark.parametrize("path", [("two a group", "mp4"), ("AV1", "mp4")], indirect=True, ids="-".join)
@pytest.mark.parametrize(("stride", "most"), [(4, 2), (5, 2), (1, 1)])
def test_only_groups_with_a_wanted_frame_are_decoded(
    path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, most: int
) -> None:
    video = Video(lambda: str(path))
    assert video.facts.frames == FRAMES
    opened = Counting(av.open(path))
    monkeypatch.setattr(av, "open", lambda file: opened)
    wanted = range(0, FRAMES, stride)
    assert len(list(video.read(wanted, "rgb24"))) == len(wanted)
    assert opened.decoded <= most * len(wanted) + 2  # and a packet or two that draws the last frame out
