"""S3 and what speaks its protocol. `s3_client` says how it is reached, `storage_parts` moves large files.

Each object carries its sha256 in its metadata, and its checksum on the way. Requests are repeated by botocore, bodies
by us. Credentials appear in no message.
"""

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from components.adapters import s3_client
from components.adapters.storage import (
    CorruptObject,
    Storage,
    StoredFile,
    TransferJob,
    atomic_file,
    check_digest,
    checked_key,
    disk_errors,
    file_sha256,
    join,
)
from components.adapters.storage_parts import PART_BYTES, Upload, checksum, downloaded, in_parallel, repeated
from model.errors import UserError
from model.progress import Progress

_MISSING = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_PRECONDITION = {"PreconditionFailed", "412"}
# S3 answers so to a conditional write while another of the same key is under way; asked again, it says which one won.
_CONFLICT_PAUSES: tuple[float | None, ...] = (0.05, 0.2, 0.8, None)
_FILES_AT_ONCE = 4  # small files are bound by round trips, large ones by their own threads
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class S3Storage(Storage):
    """Objects under s3://bucket/prefix."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.netloc:
            raise UserError(f"storage '{url}' names no bucket: give s3://bucket/prefix.")
        if not _BUCKET.fullmatch(parts.netloc):
            raise UserError(f"storage '{url}' names no bucket: it has 3 to 63 small letters, digits, dots and dashes.")
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.endpoint = s3_client.endpoint()
        self.client = s3_client.client()

    def probe(self) -> None:
        once = s3_client.client(attempts=1)
        self._call("", lambda: once.head_bucket(Bucket=self.bucket), bucket_is_asked=True)

    def put_file(self, path: Path, key: str) -> StoredFile:
        return self._put_file(path, key, lambda size: None)

    def _put_file(self, path: Path, key: str, moved: Callable[[int], None]) -> StoredFile:
        digest, size = file_sha256(path), path.stat().st_size

        def is_stored() -> bool:
            head = self._head(key)
            return bool(head and head["ContentLength"] == size and head["Metadata"].get("sha256") == digest)

        def put() -> None:
            with path.open("rb") as file:
                self.client.put_object(
                    Bucket=self.bucket, Key=self._key(key), Body=file, Metadata={"sha256": digest},
                    ChecksumSHA256=checksum(digest),
                )  # fmt: skip

        if not is_stored():
            if size <= PART_BYTES:
                self._call(key, lambda: repeated(put))
            else:
                upload = Upload(
                    client=self.client, bucket=self.bucket, key=self._key(key), path=path, size=size, sha256=digest,
                    is_stored=is_stored,
                )  # fmt: skip
                self._call(key, lambda: upload.run(moved))
        return StoredFile(key=key, size=size, sha256=digest)

    def get_file(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        self._get_file(key, path, sha256, lambda size: None)

    def _get_file(self, key: str, path: Path, sha256: str | None, moved: Callable[[int], None]) -> None:
        head = self._head(key)
        if head is None:
            raise UserError(f"nothing is stored at {self.locate(key)}.")
        expected = sha256 or head["Metadata"].get("sha256")
        if expected is not None and path.is_file() and file_sha256(path) == expected:
            return
        if head["ContentLength"] <= PART_BYTES:
            with atomic_file(path) as temporary:
                temporary.write_bytes(self._read(key)[0])
                if expected is not None:
                    check_digest(file_sha256(temporary), expected, self.locate(key))
            return
        try:
            self._get_parts(key, path, head, expected, moved)
        except CorruptObject:
            # Parts of an earlier attempt may have been lost with its machine: what is wrong twice is wrong there.
            self._get_parts(key, path, head, expected, moved)

    def _get_parts(
        self, key: str, path: Path, head: dict[str, Any], expected: str | None, moved: Callable[[int], None]
    ) -> None:
        def get() -> None:
            with disk_errors(path), downloaded(
                self.client, self.bucket, self._key(key), path, size=head["ContentLength"], etag=head["ETag"],
                moved=moved,
            ) as partial:  # fmt: skip
                if expected is not None:
                    check_digest(file_sha256(partial), expected, self.locate(key))
                partial.replace(path)

        self._call(key, get)

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def read_bytes(self, key: str) -> bytes:
        data, expected = self._read(key)
        if expected is not None:
            check_digest(hashlib.sha256(data).hexdigest(), expected, self.locate(key))
        return data

    def _read(self, key: str) -> tuple[bytes, str | None]:
        """A small object's bytes, and the sha256 that it is recorded with."""

        def get() -> tuple[bytes, str | None]:
            reply = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
            return reply["Body"].read(), reply["Metadata"].get("sha256")

        found: tuple[bytes, str | None] = self._call(key, lambda: repeated(get))
        return found

    def write_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        # With whose name the object is there, once a reply was lost on its way and the request was sent again.
        writer = uuid.uuid4().hex
        options = {"IfNoneMatch": "*", "Metadata": {"sha256": digest, "writer": writer}}
        condition = options if if_absent else {"Metadata": {"sha256": digest}}

        def put() -> bool:
            for pause in _CONFLICT_PAUSES:
                try:
                    self.client.put_object(
                        Bucket=self.bucket, Key=self._key(key), Body=data, ChecksumSHA256=checksum(digest), **condition
                    )
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if if_absent and code in _PRECONDITION:
                        head = self._head(key)
                        return head is not None and head["Metadata"].get("writer") == writer
                    if not (if_absent and code == "ConditionalRequestConflict" and pause is not None):
                        raise
                    time.sleep(pause)
                else:
                    return True
            raise AssertionError("the last attempt returns or raises")

        return bool(self._call(key, lambda: repeated(put)))

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        start = join(self.prefix, f"{checked_key(prefix).rstrip('/')}/" if prefix else "")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        found = self._call(prefix, lambda: [item for page in pages for item in page.get("Contents", [])])
        for item in sorted(found, key=lambda item: item["Key"]):
            key = item["Key"][len(self.prefix) :].lstrip("/")
            if item["Key"].endswith("/"):
                continue  # what consoles put there for a folder; it is no file
            yield StoredFile(key=key, size=item["Size"], etag=item["ETag"].strip('"'))

    def _transfer_all(self, jobs: Sequence[TransferJob], progress: Progress, *, upload: bool) -> None:
        count = _Count(jobs, progress)

        def move(job: TransferJob) -> None:
            if upload:
                job.sha256 = self._put_file(job.path, job.key, lambda size: count.add(job, size)).sha256
            else:
                self._get_file(job.key, job.path, job.sha256, lambda size: count.add(job, size))
            count.add(job, job.size)

        in_parallel(move, jobs, _FILES_AT_ONCE)

    def _key(self, key: str) -> str:
        return join(self.prefix, checked_key(key))

    def _head(self, key: str) -> dict[str, Any] | None:
        def head() -> dict[str, Any] | None:
            try:
                reply: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
            except ClientError as error:
                # A HEAD has no body: a missing bucket and a missing key are the same 404.
                if error.response["Error"]["Code"] in _MISSING:
                    self.client.head_bucket(Bucket=self.bucket)
                    return None
                raise
            return reply

        found: dict[str, Any] | None = self._call(key, head, bucket_is_asked=True)
        return found

    def _call(self, key: str, action: Callable[[], Any], *, bucket_is_asked: bool = False) -> Any:
        """Runs one request and says in one sentence what failed; the tool's own text may repeat what it was sent."""
        where = self.locate(key).rstrip("/")
        at = f" at {self.endpoint}" if self.endpoint else ""
        try:
            return action()
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise UserError(
                f"no credentials for {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            ) from error
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code == "NoSuchBucket" or (bucket_is_asked and code in _MISSING):
                raise UserError(
                    f"bucket '{self.bucket}' does not exist{at}: create it, or correct the storage URL."
                ) from error
            if code in _MISSING:
                raise UserError(f"nothing is stored at {where}.") from error
            if code in _PRECONDITION:
                raise UserError(
                    f"{where} was replaced while it was read: run again, when nobody writes there any more."
                ) from error
            if code in _REFUSED:
                raise UserError(
                    f"access to {where}{at} was refused ({code}): check the credentials and the bucket's policy."
                ) from error
            raise UserError(
                f"storage{at} answered {status} ({code}) for {where}, also when asked again: {_AGAIN}"
            ) from error
        except BotoCoreError as error:
            raise UserError(
                f"no usable answer from storage{at} for {where} ({type(error).__name__}): {_AGAIN}"
            ) from error


class _Count:
    """Bytes moved of several files, told by several threads. A part that was sent again counts once."""

    def __init__(self, jobs: Sequence[TransferJob], progress: Progress) -> None:
        self._moved = {job.key: 0 for job in jobs}
        self._done, self._total = 0, sum(job.size for job in jobs)
        self._progress, self._lock = progress, threading.Lock()

    def add(self, job: TransferJob, size: int) -> None:
        with self._lock:
            new = min(size, job.size - self._moved[job.key])
            self._moved[job.key] += new
            self._done += new
            self._progress.update(self._done, self._total)


_AGAIN = "check that it runs and can be reached, then run again; what was moved is kept."
