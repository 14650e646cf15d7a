"""How S3 is reached: the AWS_* environment and AWS's own files say where and as whom; what else we decide.

A store of one's own (an endpoint URL) is asked by path, https://host/bucket/key: MinIO and Ceph have no name in DNS for
each bucket. `addressing_style` in AWS_CONFIG_FILE says otherwise where one has.
"""

import functools
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from components.secrets import refuse_in_address
from model.errors import UserError

CONNECTIONS = 32


def endpoint() -> str | None:
    """The address of a store of one's own; None: Amazon's.

    Raises:
        UserError: it is no http address, or holds credentials, which S3 does not take from there.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        url = os.environ.get(name)
        if url:
            refuse_in_address(name, url)
            if not _is_address(url):
                raise UserError(f"{name} is '{url}': it must be http://host:port or https://host.")
            return url
    return None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of brackets that do not close
        return False


def addressing_style() -> str:
    """path, virtual or auto."""
    configured = botocore.session.Session().get_scoped_config().get("s3", {})
    style: str = configured.get("addressing_style", "path" if endpoint() else "auto")
    return style


def region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def client(*, attempts: int = 0) -> Any:
    """A client of boto3; one for all that have the same environment and files. `attempts` of each request; 0: what
    AWS_MAX_ATTEMPTS says, or five."""
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    changed = file.stat().st_mtime_ns if file.is_file() else 0
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    try:
        return _client(environment, changed, attempts)
    except ProfileNotFound as error:
        raise UserError(
            f"AWS_PROFILE is '{os.environ.get('AWS_PROFILE')}', and AWS's files hold no such profile: correct it, or "
            "add it to ~/.aws/config."
        ) from error
    except UserError:
        raise
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"the settings of S3 are not accepted ({type(error).__name__}: {error}): correct AWS_*, or AWS's files."
        ) from error


@functools.lru_cache(maxsize=8)
def _client(environment: tuple[tuple[str, str], ...], credentials_file: int, attempts: int) -> Any:
    """Making one takes 0.2 s of arithmetic, a request 5 ms. The arguments are what it is made from."""
    own = {"total_max_attempts": attempts} if attempts else {}
    retries = own or ({} if "AWS_MAX_ATTEMPTS" in os.environ else {"max_attempts": 5})
    return boto3.Session().client(
        "s3",
        region_name=region(),
        config=Config(
            retries={"mode": "standard", **retries},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": addressing_style()},
        ),
    )
