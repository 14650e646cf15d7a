"""Puts the dataset of a tag where pods read: into the bucket of the profile, once for its digest."""

from components.adapters.storage import Storage
from model.errors import UserError
from pipelines.profile import Profile
from pipelines.versions.tags import fetch_dataset, find_release


def stage_release(tag: str, profile: Profile) -> str:
    """The address of a released dataset in the profile's storage; what is there already is not sent again.

    Raises:
        UserError: no such release, its data cannot be fetched, or the profile names no storage.
    """
    if not profile.storage.url:
        raise UserError(
            f"profile '{profile.name}' has no storage.url, from which pods would read the data of '{tag}': give it one"
        )
    release = find_release(tag)
    digest = release.record["steps"][release.record["source"]]["digest"]
    storage = Storage.from_url(profile.storage.url)
    storage.put_folder(fetch_dataset(tag), f"datasets/{digest}")
    return storage.locate(f"datasets/{digest}")
