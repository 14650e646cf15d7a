"""From what was asked for (a path, or an alias of the registry) to the bundle that is served, its bytes checked."""

from pathlib import Path

from components.endpoint.served import UNREGISTERED, Served
from model.errors import UserError


def resolve(*, bundle: Path | None, alias: str, model: str) -> Served:
    """Loads the bundle at a path, or the one that an alias points at.

    Raises:
        UserError: no such path, model or alias; a bundle whose bytes are not those of its manifest, or whose digest is
            not the one that was registered.
    """
    from model.bundle import load_bundle

    if bundle is not None:
        loaded = load_bundle(bundle)
        return Served(bundle=loaded, model_name=f"lingbot-vla-{loaded.robot.id}", model_version=UNREGISTERED)
    from components.adapters import tracking
    from components.bundles import fetch_bundle

    name = model or tracking.only_model()
    version = tracking.version_of_alias(name, alias)
    if version is None:
        raise UserError(
            f"model {name} has no alias '{alias}': promote a version first (lingbot models promote VERSION), "
            f"or serve a folder with --bundle PATH"
        )
    loaded = load_bundle(fetch_bundle(version.digest, version.uri))
    if loaded.digest != version.digest:
        raise UserError(
            f"{name} version {version.version} was registered with digest {version.digest[:12]}, its bundle has "
            f"{loaded.digest[:12]}: it is not what was evaluated; register it again"
        )
    return Served(bundle=loaded, model_name=name, model_version=version.version, alias=alias)
