"""Large objects in parts, both ways: a later attempt, also of another process, moves only the parts that are missing.

An upload's parts wait in the bucket until it is completed; those that hold the same bytes are taken over. A download's
parts are written where they belong in a hidden file beside the target, and a journal beside that says which are whole.
Each part carries its SHA-256 on the way up, and comes only from the very object that the transfer began with.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from components.adapters.storage import TEMPORARY
from model.errors import UserError

T = TypeVar("T")
Item = TypeVar("Item")
Moved = Callable[[int], None]

PART_BYTES = 16 << 20
_MOST_PARTS = 10_000  # S3's limit
_PARTS_AT_ONCE = 4
_READ_BYTES = 1 << 20
# botocore asks again until a reply begins; what goes wrong in its body, or with ours on the way, is ours to repeat.
_BROKEN_BODY = (
    ConnectionClosedError, FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError,
)  # fmt: skip
_BROKEN_ON_THE_WAY = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_PAUSES: tuple[float | None, ...] = (0.1, 0.4, 1.6, 6.4, None)
# An upload that somebody else has completed or replaced under us.
_LOST_UPLOAD = {"NoSuchUpload", "InvalidPart", "InvalidPartOrder"}
_NO_LISTING = {"AccessDenied", "403", "NotImplemented", "501", "MethodNotAllowed", "405"}


def repeated(action: Callable[[], T]) -> T:
    """The result of one request and its body, asked again when the bytes broke on the way."""
    for pause in _PAUSES:
        try:
            return action()
        except _BROKEN_BODY:
            if pause is None:
                raise
        except ClientError as error:
            if pause is None or error.response["Error"]["Code"] not in _BROKEN_ON_THE_WAY:
                raise
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def checksum(digest: str | bytes) -> str:
    """A hex or binary SHA-256 as S3 takes it."""
    return base64.b64encode(bytes.fromhex(digest) if isinstance(digest, str) else digest).decode()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A range of a file. `number` counts from 1."""

    number: int
    start: int
    size: int


def parts_of(size: int) -> list[Part]:
    """The parts of a file: a function of its size alone, so that every attempt cuts alike."""
    step = max(PART_BYTES, -(-size // _MOST_PARTS))
    return [
        Part(number=index + 1, start=start, size=min(step, size - start))
        for index, start in enumerate(range(0, size, step))
    ]


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file on its way to an object.

    Attributes:
        client: of boto3.
        bucket, key: the object.
        path, size: the file.
        sha256: of the file; recorded in the object's metadata.
        is_stored: whether the object is there with this sha256.
    """

    client: Any
    bucket: str
    key: str
    path: Path
    size: int
    sha256: str
    is_stored: Callable[[], bool]

    def run(self, moved: Moved) -> None:
        """Sends what is missing and completes the object; `moved` hears the size of every part."""
        for begin in (self._unfinished, self._begin, self._begin):
            upload = begin()
            if upload is None:
                continue
            try:
                self._complete(upload, moved)
            except ClientError as error:
                if error.response["Error"]["Code"] not in _LOST_UPLOAD:
                    raise
            # Asked after in any case. The answer to a completion may have been lost, and asked again the upload is not
            # there; and what was begun for other bytes keeps their sha256, even when every part is replaced.
            if self.is_stored():
                return
        raise UserError(
            f"s3://{self.bucket}/{self.key} was replaced each time that it was stored: another process writes other "
            "bytes there; end it, then run again."
        )

    def _begin(self) -> dict[str, Any]:
        reply = self.client.create_multipart_upload(
            Bucket=self.bucket, Key=self.key, Metadata={"sha256": self.sha256}, ChecksumAlgorithm="SHA256"
        )
        return {"id": reply["UploadId"], "present": {}}

    def _unfinished(self) -> dict[str, Any] | None:
        """The newest upload of this object that an earlier attempt left with parts of these very bytes."""
        try:
            listed = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.key).get("Uploads", [])
            for begun in sorted(listed, key=lambda item: item["Initiated"], reverse=True):
                if begun["Key"] == self.key:
                    pages = self.client.get_paginator("list_parts").paginate(
                        Bucket=self.bucket, Key=self.key, UploadId=begun["UploadId"]
                    )
                    present = {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
                    if present and self._are_ours(present):
                        return {"id": begun["UploadId"], "present": present}
        except ClientError as error:
            # Without this permission an upload starts anew, as it may.
            if error.response["Error"]["Code"] not in {*_NO_LISTING, *_LOST_UPLOAD}:
                raise
        return None

    def _are_ours(self, present: dict[int, Any]) -> bool:
        ours = {part.number: part for part in parts_of(self.size)}
        return all(
            number in ours and there["Size"] == ours[number].size and self._is_equal(ours[number], there)
            for number, there in present.items()
        )

    def _is_equal(self, part: Part, there: dict[str, Any]) -> bool:
        data = self._read(part)
        if "ChecksumSHA256" in there:
            return bool(there["ChecksumSHA256"] == checksum(hashlib.sha256(data).digest()))
        # Where the store keeps no checksum of a part its tag is the MD5 of it, or the part is sent again.
        return bool(there["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())

    def _complete(self, upload: dict[str, Any], moved: Moved) -> None:
        def send(part: Part) -> dict[str, Any]:
            data = self._read(part)
            digest = checksum(hashlib.sha256(data).digest())
            there = upload["present"].get(part.number)
            if there is None:
                there = repeated(
                    lambda: self.client.upload_part(
                        Bucket=self.bucket, Key=self.key, UploadId=upload["id"], PartNumber=part.number, Body=data,
                        ChecksumSHA256=digest,
                    )
                )  # fmt: skip
            moved(part.size)
            return {"PartNumber": part.number, "ETag": there["ETag"], "ChecksumSHA256": digest}

        finished = in_parallel(send, parts_of(self.size))
        self.client.complete_multipart_upload(
            Bucket=self.bucket, Key=self.key, UploadId=upload["id"], MultipartUpload={"Parts": finished}
        )

    def _read(self, part: Part) -> bytes:
        with self.path.open("rb") as file:
            file.seek(part.start)
            return file.read(part.size)


@contextlib.contextmanager
def downloaded(client: Any, bucket: str, key: str, path: Path, *, size: int, etag: str, moved: Moved) -> Iterator[Path]:
    """An object in a hidden file beside `path`, for the caller to check and to move there.

    The file is held against other processes until the block ends. What a failed transfer has fetched stays; what the
    block did not move is removed, so that wrong bytes are not gone on with.

    Raises:
        ClientError: with code PreconditionFailed, when the object was replaced while it was read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{TEMPORARY}{path.name}")
    with _journal(partial, {"etag": etag, "size": size, "part": PART_BYTES}) as (journal, present):
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.truncate(handle, size)

            def fetch(part: Part) -> None:
                if part.number not in present:
                    repeated(lambda: _fetch(client, bucket, key, etag, handle, part))
                    journal.write(f"{part.number}\n")
                    journal.flush()
                moved(part.size)

            in_parallel(fetch, parts_of(size))
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            yield partial
        finally:
            for left in (partial, _journal_path(partial)):
                left.unlink(missing_ok=True)


def _fetch(client: Any, bucket: str, key: str, etag: str, handle: int, part: Part) -> None:
    span = f"bytes={part.start}-{part.start + part.size - 1}"
    body = client.get_object(Bucket=bucket, Key=key, Range=span, IfMatch=etag)["Body"]
    offset = part.start
    for data in body.iter_chunks(_READ_BYTES):
        os.pwrite(handle, data, offset)
        offset += len(data)
    assert offset == part.start + part.size, f"{span} of {key} came with {offset - part.start} bytes"


def _journal_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.journal")


@contextlib.contextmanager
def _journal(partial: Path, object_: dict[str, Any]) -> Iterator[tuple[TextIO, set[int]]]:
    """The journal of a download, held against other processes, and the parts that are whole.

    A journal of another object, or without its bytes, starts anew.
    """
    file = _held(_journal_path(partial))
    with file:
        file.seek(0)
        # A line without its end was being written when its process died.
        first, *lines = [line.strip() for line in file.read().splitlines(keepends=True) if line.endswith("\n")] or [""]
        is_same = first == json.dumps(object_) and partial.exists() and partial.stat().st_size == object_["size"]
        present = {int(line) for line in lines} if is_same else set()
        file.truncate(0)
        file.write("".join(f"{line}\n" for line in (json.dumps(object_), *sorted(present))))
        file.flush()
        yield file, present


def _held(path: Path) -> TextIO:
    while True:
        file = path.open("a+", encoding="ascii")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # 0: the process that held it before us finished and removed it
            return file
        file.close()


def in_parallel(action: Callable[[Item], T], items: Sequence[Item], at_once: int = _PARTS_AT_ONCE) -> list[T]:
    """The action on each item, so many at once; after a failure no further one begins."""
    with ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(action, item) for item in items]
        try:
            for finished in as_completed(running):
                finished.result()
        finally:
            for waiting in running:
                waiting.cancel()
        return [finished.result() for finished in running]
