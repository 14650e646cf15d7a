"""From what was asked for (a path, or an alias of the registry) to the bundle that is served, its bytes checked."""

from pathlib import Path

from components.endpoint.served import UNREGISTERED, Served
from components.routing_state import Target
from model.errors import UserError


def resolve(*, bundle: Path | None, alias: str, model: str) -> Served:
    """Loads the bundle at a path, or the one that an alias points at.

    Raises:
        UserError: no such path, model or alias; an alias that was moved past the ledger; a bundle whose bytes are not
            those of its manifest, or whose digest is not the one that was registered.
    """
    from model.bundle import load_bundle

    if bundle is not None:
        loaded = load_bundle(bundle)
        return Served(bundle=loaded, model_name=f"lingbot-vla-{loaded.robot.id}", model_version=UNREGISTERED)
    from components.adapters import tracking
    from components.routing_state import NotPromoted, read_routing

    name = model or tracking.only_model()
    try:
        routing = read_routing(name, alias)
    except NotPromoted as error:
        raise UserError(f"{error}, or serve a folder with --bundle PATH") from error
    return load_target(name, alias, routing.champion)


def load_target(model: str, alias: str, target: Target) -> Served:
    """Fetches a registered version and loads it, every byte checked.

    Raises:
        UserError: it cannot be fetched, or is not what was registered.
    """
    from components.bundles import fetch_bundle
    from model.bundle import load_bundle

    loaded = load_bundle(fetch_bundle(target.digest, target.uri))
    if loaded.digest != target.digest:
        raise UserError(
            f"{model} version {target.version} was registered with digest {target.digest[:12]}, its bundle has "
            f"{loaded.digest[:12]}: it is not what was evaluated; register it again"
        )
    return Served(bundle=loaded, model_name=model, model_version=target.version, alias=alias)
