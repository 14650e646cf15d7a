"""From what was asked for (a path, or an alias of the registry) to the bundle that is served, its bytes checked."""

import logging
from dataclasses import replace
from pathlib import Path

from components.endpoint.served import UNREGISTERED, Served
from components.routing_state import Target
from model.errors import UserError

logger = logging.getLogger("lingbot.endpoint")


def resolve(*, bundle: Path | None, alias: str, model: str) -> Served:
    """Loads the bundle at a path, or the one that an alias points at; while the registry is away, the one that this
    machine served last (`Served.remembered`).

    Raises:
        UserError: no such path, model or alias; an alias that was moved past the ledger; a bundle whose bytes are not
            those of its manifest, or whose digest is not the one that was registered; the registry is away, and
            nothing was served here before.
    """
    from model.bundle import load_bundle

    if bundle is not None:
        loaded = load_bundle(bundle)
        return Served(bundle=loaded, model_name=f"lingbot-vla-{loaded.robot.id}", model_version=UNREGISTERED)
    from components.adapters import tracking
    from components.routing_state import NotPromoted, RoutingUnavailable, read_routing

    try:
        name = model or tracking.only_model()
        routing = read_routing(name, alias)
    except (NotPromoted, tracking.NoModel) as error:
        raise UserError(f"{error}, or serve a folder with --bundle PATH") from error
    except (tracking.RegistryUnavailable, RoutingUnavailable) as error:
        return _served_last(model, alias, error)
    return load_target(name, alias, routing.champion)


def _served_last(model: str, alias: str, away: UserError) -> Served:
    from components.endpoint.last_served import recall

    last = recall(model, alias)
    if last is None:
        raise UserError(f"{away}; and this machine has served no '{alias}' before: serve a folder with --bundle PATH")
    logger.error("%s; version %s, which was served here last (%s), is served on", away, last.version, last.at)
    return replace(load_target(last.model, alias, last.target), remembered=last.at)


def load_target(model: str, alias: str, target: Target) -> Served:
    """Fetches a registered version and loads it, every byte checked.

    Raises:
        UserError: it cannot be fetched, or is not what was registered.
    """
    from components.bundles import load_registered

    loaded = load_registered(target.digest, target.uri)
    if loaded.digest != target.digest:
        raise UserError(
            f"{model} version {target.version} was registered with digest {target.digest[:12]}, its bundle has "
            f"{loaded.digest[:12]}: it is not what was evaluated; register it again"
        )
    return Served(bundle=loaded, model_name=model, model_version=target.version, alias=alias)
