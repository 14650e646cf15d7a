"""A recording of sampled traffic: whole episodes, in a folder with a size cap, for replaying through a candidate.

    traffic-<start>-<process>-<number>.rec    segments; the oldest are deleted before the folder grows past the cap
    segment   b"LBREC001", then records
    record    length u32, crc32 u32 (little endian), then zlib of a message in the endpoint's own wire format

Nothing is pickled, and what is read is decoded as strictly as what comes from a client. Keys are in no message. A robot
is never kept waiting: a writer on a thread of its own takes what there is time for, and the rest is left out, counted.
"""

import hashlib
import logging
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.endpoint.codec import Limits, pack, unpack
from components.endpoint.errors import Refused
from components.endpoint.metrics import Metrics
from model.errors import UserError

SCHEMA_VERSION = 1
SUFFIX = ".rec"
MIN_BYTES = 2**20
_MAGIC = b"LBREC001"
_HEAD = struct.Struct("<II")
_SEGMENTS = 8  # how many share the cap: with the oldest, an eighth of it goes
_WAITING = 64  # exchanges that may wait for the writer: 29 MB of three 224 px views
_LIMITS = Limits(max_bytes=64 * 1024 * 1024, max_elements=16_384, max_depth=12)
logger = logging.getLogger("lingbot.endpoint")


class Recorded(Protocol):
    """What is read of a session."""

    id: str
    robot: str | None


class Recorder:
    """Keeps a share of the episodes, those of a name always or never.

    Args:
        folder: made when it is not there; only its owner can read it.
        describe: `Service.metadata`: each segment begins with the contract.
        share: of the episodes, 0 to 1.
        max_bytes: of all segments in the folder, those of earlier processes too.
        metrics: counts `recorded`.

    Raises:
        UserError: a share or size out of range, or a folder that cannot be written.
    """

    def __init__(self, folder: Path, describe: Any, *, share: float, max_bytes: int, metrics: Metrics) -> None:
        if not 0 < share <= 1:
            raise UserError(f"a share of {share} of the episodes cannot be recorded: give one over 0 and up to 1")
        if max_bytes < MIN_BYTES:
            raise UserError(f"a recording of {max_bytes} bytes holds next to nothing: give at least {MIN_BYTES}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # pictures of people and places
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise UserError(f"recordings cannot be written to {folder} ({error}): name another folder") from error
        self._folder, self._describe, self._share, self._metrics = folder, describe, share, metrics
        self._max_bytes, self._segment_bytes = max_bytes, max_bytes // _SEGMENTS
        self._prefix = f"traffic-{time.time_ns():020d}-{os.getpid()}"
        self._number = 0
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._broken = False
        self._writer = threading.Thread(target=self._write_all, name="recording", daemon=True)
        self._writer.start()

    def keep(self, message: Mapping[str, Any], reply: Mapping[str, Any], session: Recorded) -> None:
        """One exchange, if its episode is of the share. Returns at once; the message must not be changed after."""
        if reply.get("actions") is None:
            return
        episode = reply["episode_id"]  # the session's may be the next one by now
        if not sampled(episode, self._share):
            return
        exchange = {
            "time": time.time(),
            "episode": episode,
            "session": session.id,
            "robot": session.robot,
            "message": dict(message),
            "reply": {name: value for name, value in reply.items() if name != "action"},
        }
        try:
            self._waiting.put_nowait(exchange)
        except queue.Full:
            self._metrics.count("recorded", result="left_out")

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._waiting.put(None)
        self._writer.join()

    def _write_all(self) -> None:
        segment: _Segment | None = None
        while (exchange := self._waiting.get()) is not None:
            kept = False
            try:
                if not self._broken:
                    segment, kept = self._write(segment, exchange)
            except OSError as error:
                # Robots are answered all the same: a full disk ends the recording, not the service.
                self._broken = True
                logger.error("the recording in %s ends, it cannot be written: %s", self._folder, error)
            self._metrics.count("recorded", result="kept" if kept else "left_out")
        if segment is not None:
            segment.close()

    def _write(self, segment: "_Segment | None", exchange: dict[str, Any]) -> tuple["_Segment | None", bool]:
        """The segment that is open afterwards, and whether the exchange is in it."""
        try:
            record = _record(exchange)
        except (OverflowError, TypeError, ValueError) as error:  # a number from JSON that msgpack has no room for
            logger.warning("an exchange cannot be recorded: %s", error)
            return segment, False
        if len(record) > self._max_bytes // 2:
            return segment, False
        if segment is None or segment.size + len(record) > self._segment_bytes:
            if segment is not None:
                segment.close()
            segment = self._begin(len(record))
        segment.write(record)
        return segment, True

    def _begin(self, needed: int) -> "_Segment":
        """A new segment, after the oldest made room for it."""
        header = _record({"schema_version": SCHEMA_VERSION, "metadata": self._describe()})
        room = self._max_bytes - max(self._segment_bytes, len(_MAGIC) + len(header) + needed)
        kept = segments(self._folder)
        sizes = {path: _size(path) for path in kept}
        while kept and sum(sizes[path] for path in kept) > room:
            kept.pop(0).unlink(missing_ok=True)
        self._number += 1
        return _Segment(self._folder / f"{self._prefix}-{self._number:05d}{SUFFIX}", header)


class _Segment:
    def __init__(self, path: Path, header: bytes) -> None:
        self._file = path.open("xb")
        self.size = 0
        try:
            self.write(_MAGIC + header)
        except OSError:
            self._file.close()
            raise

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()
        self.size += len(content)

    def close(self) -> None:
        self._file.close()


def sampled(episode: str, share: float) -> bool:
    """Whether an episode of this name is of the share: the same answer in every process."""
    drawn = int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _size(segment: Path) -> int:
    """0 of one that another process has deleted meanwhile."""
    try:
        return segment.stat().st_size
    except FileNotFoundError:
        return 0


def segments(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A message and its reply as they went over the wire, `action` left out of the reply."""

    time: float  # seconds since 1970
    episode: str
    session: str
    robot: str | None
    message: dict[str, Any]
    reply: dict[str, Any]


class Recording:
    """What a recorder left: a folder of segments, or one of them.

    Raises:
        UserError: there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segments = [path] if path.is_file() else segments(path)
        if not self._segments:
            raise UserError(f"{path} holds no recording (*{SUFFIX}): `lingbot serve --record FOLDER` makes one")
        self.torn = 0
        """Segments whose end was not written whole, of those that were read: a process was killed."""

    def digest(self) -> str:
        """sha256 over the segments, in their order."""
        hashed = hashlib.sha256()
        for segment in self._segments:
            hashed.update(segment.read_bytes())
        return hashed.hexdigest()

    def metadata(self) -> dict[str, Any]:
        """Who served, and the contract, when the first segment was begun."""
        header = next(self._records(self._segments[0]), None)
        if header is None:
            raise UserError(f"{self._segments[0]} ends before its header is over: delete it")
        return self._checked(header)["metadata"]

    def __len__(self) -> int:
        """How many exchanges there are, without reading them."""
        return sum(max(0, _count(segment) - 1) for segment in self._segments)

    def __iter__(self) -> Iterator[Exchange]:
        """The exchanges, as they were written.

        Raises:
            UserError: a segment was damaged, or written by a newer version.
        """
        self.torn = 0
        for segment in self._segments:
            for number, record in enumerate(self._records(segment)):
                if number == 0:
                    self._checked(record)
                    continue
                try:
                    yield Exchange(**record)
                except TypeError as error:
                    raise UserError(f"{segment} holds a record that is no exchange: {error}") from error

    def _records(self, segment: Path) -> Iterator[dict[str, Any]]:
        with segment.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise UserError(f"{segment} is no recording of an endpoint: it begins with other bytes")
            while head := file.read(_HEAD.size):
                length, crc = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
                body = file.read(min(length, _LIMITS.max_bytes))
                if len(head) < _HEAD.size or len(body) < length:
                    self.torn += 1
                    return
                if zlib.crc32(body) != crc:
                    raise UserError(
                        f"{segment} was changed after it was written: its record at {file.tell()} is damaged"
                    )
                yield _read(segment, body)

    def _checked(self, header: Mapping[str, Any]) -> dict[str, Any]:
        version = header.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(f"{self.path} has schema_version {version!r}, this code reads {SCHEMA_VERSION}: update it")
        return dict(header)


def _record(content: Mapping[str, Any]) -> bytes:
    body = zlib.compress(pack(content), 1)  # views of a camera shrink by a third to a half, in 10 ms
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _count(segment: Path) -> int:
    """The records of a segment by their heads; one whose end was not written is not counted."""
    size, at, records = segment.stat().st_size, len(_MAGIC), 0
    with segment.open("rb") as file:
        while at + _HEAD.size <= size:
            file.seek(at)
            at += _HEAD.size + _HEAD.unpack(file.read(_HEAD.size))[0]
            records += at <= size
    return records


def _read(segment: Path, body: bytes) -> dict[str, Any]:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(body, _LIMITS.max_bytes)
        record = unpack(content, _LIMITS)
    except (zlib.error, Refused) as error:
        raise UserError(f"{segment} holds a record that cannot be read: {error}") from error
    if inflater.unconsumed_tail or not isinstance(record, dict):
        raise UserError(f"{segment} holds a record that is no exchange")
    return record
