"""Datasets where they lie: a folder, or s3:// through fsspec and s3fs. Endpoint and credentials come from AWS_*."""

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

    from components.adapters import s3_client

    return s3fs.S3FileSystem(
        endpoint_url=s3_client.endpoint(),
        client_kwargs={"region_name": s3_client.region()},
        config_kwargs={"s3": {"addressing_style": s3_client.addressing_style()}},
        default_block_size=1 << 20,  # metadata and single frames: 5 MiB read-ahead would be mostly thrown away
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
