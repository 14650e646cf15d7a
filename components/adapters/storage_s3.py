"""S3 and what speaks its protocol, through boto3. Endpoint and credentials come from the AWS_* environment.

Each object carries its sha256 in its metadata. Transport errors are retried by botocore and s3transfer; large files go
in parts. Credentials appear in no message.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from components.adapters.storage import (
    Storage,
    StoredFile,
    TransferJob,
    atomic_file,
    check_digest,
    checked_key,
    file_sha256,
    join,
)
from model.errors import UserError
from model.progress import Progress

_MISSING = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4)
# S3 answers so to a conditional write while another of the same key is under way; asked again, it says which one won.
_CONFLICT_PAUSES: tuple[float | None, ...] = (0.05, 0.2, 0.8, None)
_CONNECTIONS = 32
_FILES_AT_ONCE = 4  # small files are bound by round trips, large ones by s3transfer's own threads


class S3Storage(Storage):
    """Objects under s3://bucket/prefix."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.netloc:
            raise UserError(f"storage '{url}' names no bucket: give s3://bucket/prefix.")
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.endpoint = _without_credentials(
            os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        self.client = _client(*_credentials())

    def put_file(self, path: Path, key: str) -> StoredFile:
        digest, size = file_sha256(path), path.stat().st_size
        head = self._head(key)
        if not (head and head["ContentLength"] == size and head["Metadata"].get("sha256") == digest):
            self._call(
                key,
                lambda: self.client.upload_file(
                    str(path),
                    self.bucket,
                    self._key(key),
                    ExtraArgs={"Metadata": {"sha256": digest}},
                    Config=_TRANSFER,
                ),
            )
        return StoredFile(key=key, size=size, sha256=digest)

    def get_file(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        head = self._head(key)
        if head is None:
            raise UserError(f"nothing is stored at {self.locate(key)}.")
        expected = sha256 or head["Metadata"].get("sha256")
        if expected is not None and path.is_file() and file_sha256(path) == expected:
            return
        with atomic_file(path) as temporary:
            self._call(
                key,
                lambda: self.client.download_file(self.bucket, self._key(key), str(temporary), Config=_TRANSFER),
            )
            if expected is not None:
                check_digest(file_sha256(temporary), expected, self.locate(key))

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def read_bytes(self, key: str) -> bytes:
        reply = self._call(key, lambda: self.client.get_object(Bucket=self.bucket, Key=self._key(key)))
        data: bytes = self._call(key, reply["Body"].read)
        expected = reply["Metadata"].get("sha256")
        if expected is not None:
            check_digest(hashlib.sha256(data).hexdigest(), expected, self.locate(key))
        return data

    def write_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        metadata = {"sha256": hashlib.sha256(data).hexdigest()}

        def put() -> bool:
            for pause in _CONFLICT_PAUSES:
                try:
                    self.client.put_object(
                        Bucket=self.bucket, Key=self._key(key), Body=data, Metadata=metadata, **condition
                    )
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if if_absent and code in {"PreconditionFailed", "412"}:
                        return False
                    if not (if_absent and code == "ConditionalRequestConflict" and pause is not None):
                        raise
                    time.sleep(pause)
                else:
                    return True
            raise AssertionError("the last attempt returns or raises")

        return bool(self._call(key, put))

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        start = join(self.prefix, f"{checked_key(prefix).rstrip('/')}/" if prefix else "")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        found = self._call(prefix, lambda: [item for page in pages for item in page.get("Contents", [])])
        for item in sorted(found, key=lambda item: item["Key"]):
            key = item["Key"][len(self.prefix) :].lstrip("/")
            yield StoredFile(key=key, size=item["Size"], etag=item["ETag"].strip('"'))

    def _transfer_all(self, jobs: Sequence[TransferJob], progress: Progress, *, upload: bool) -> None:
        def move(job: TransferJob) -> int:
            if upload:
                job.sha256 = self.put_file(job.path, job.key).sha256
            else:
                self.get_file(job.key, job.path, sha256=job.sha256)
            return job.size

        done, total = 0, sum(job.size for job in jobs)
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            running = [pool.submit(move, job) for job in jobs]
            try:
                for finished in as_completed(running):
                    done += finished.result()
                    progress.update(done, total)
            finally:
                for waiting in running:
                    waiting.cancel()

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
        except boto3.exceptions.Boto3Error as error:
            # upload_file wraps the ClientError in its own type.
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ClientError | BotoCoreError):
                return self._call(key, lambda: _throw(cause))
            raise UserError(f"the upload to {where}{at} failed ({type(error).__name__}): {_AGAIN}") from error


def _credentials() -> tuple[tuple[tuple[str, str], ...], int]:
    """What a client is made from: the environment, and the age of the file with keys, which may be replaced."""
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    changed = file.stat().st_mtime_ns if file.is_file() else 0
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))), changed


@functools.lru_cache(maxsize=8)
def _client(environment: tuple[tuple[str, str], ...], credentials_file: int) -> Any:
    """One for all storages with the same credentials: making a client takes 0.2 s of arithmetic, a request 5 ms."""
    return boto3.Session().client(
        "s3",
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        config=Config(
            retries={"max_attempts": 5, "mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=_CONNECTIONS,
        ),
    )


_AGAIN = "check that it runs and can be reached, then run again; what was moved is kept."


def _throw(error: Exception) -> Any:
    raise error


def _without_credentials(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
