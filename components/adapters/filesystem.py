"""Datasets where they lie: a folder, or s3:// through fsspec and s3fs. Endpoint and credentials come from AWS_*."""

import os
from typing import TYPE_CHECKING, Any

from model.errors import UserError

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset


def open_dataset(url: str) -> "LeRobotDataset":
    """Open a LeRobot dataset for reading; nothing is copied.

    Raises:
        UserError: it is no dataset, or the store cannot be reached or refuses.
    """
    from model.data.lerobot import LeRobotDataset

    if not url.startswith("s3://"):
        return LeRobotDataset.open(url)
    import botocore.exceptions

    try:
        return LeRobotDataset.open(url, s3_filesystem())
    except (OSError, botocore.exceptions.BotoCoreError) as error:
        raise UserError(
            f"{url} cannot be read ({type(error).__name__}: {_sentence(error)}). "
            "Check the address, AWS_ENDPOINT_URL and the AWS_* credentials."
        ) from error


def s3_filesystem() -> Any:
    """An fsspec file system for s3:// addresses; listings are read anew for each."""
    import s3fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return s3fs.S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={"region_name": region},
        default_block_size=1 << 20,  # metadata and single frames: 5 MiB read-ahead would be mostly thrown away
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
