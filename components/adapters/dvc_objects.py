"""Large objects of DVC's cache on their way to a bucket, by boto3: several connections an object, several parts each.

DVC sends an object from one thread, one part of 50 MiB after another: 2 GiB of packed shards took 1.6 times as long. An
object's name is its content, so one that is there with its size is not sent again. What DVC takes for the sign that a
folder is complete (its `.dir` object) is left to DVC, which sends it last.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from components.adapters import s3_client
from components.adapters.storage import join
from model.errors import UserError

OBJECTS = "files/md5"  # in caches and remotes alike
LARGE = 32 << 20  # the smaller ones DVC sends side by side


def upload_large(cache: Path, url: str) -> None:
    """Brings every large object of a cache to the remote s3://bucket/prefix.

    Raises:
        UserError: it cannot be reached, or refuses.
    """
    parts = urlsplit(url)
    client, base = s3_client.client(), cache / OBJECTS
    for path in sorted(path for path in base.rglob("*") if path.is_file() and path.suffix != ".dir"):
        size = path.stat().st_size
        key = join(parts.path.strip("/"), f"{OBJECTS}/{path.relative_to(base).as_posix()}")
        if size < LARGE:
            continue
        try:
            if _stored_size(client, parts.netloc, key) != size:
                client.upload_file(str(path), parts.netloc, key)
        except (BotoCoreError, ClientError, S3UploadFailedError) as error:
            raise UserError(
                f"{url} could not be written ({_reason(error)}): check that it is there and that AWS_* may write to "
                "it, then run again; what was moved is kept"
            ) from error


def _stored_size(client: Any, bucket: str, key: str) -> int | None:
    try:
        return int(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "404":
            return None
        raise


def _reason(error: Exception) -> str:
    """A code or a kind: the text of some errors repeats what was sent."""
    cause = error.__context__ if isinstance(error, S3UploadFailedError) else error
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else type(cause or error).__name__
