"""MLflow: runs with their figures, and the registry of model versions.

The default is sqlite in this process, `LINGBOT_HOME/mlflow.db`; MLFLOW_TRACKING_URI names a server instead. Weights
never go through the tracking server: a version is the URI and the digest of a bundle that lies in storage, and tags
that say where it comes from. MLflow is imported on the first call (1.4 s).
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from components import state
from model.errors import UserError, unknown_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "lingbot"
MODEL_PREFIX = "lingbot-vla-"
_KEY_TAG = "lingbot.key"
_DIGEST_TAG = "bundle_digest"
_MAX_PARAMETER = 500  # characters that MLflow keeps of a parameter
_RESERVED_ALIASES = ("latest",)
_CAUSED_BY = re.compile(r"\(Caused by \w+\([\"'](?:HTTPS?Connection(?:Pool)?\(.*?\): )?(.*)[\"']\)\)")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version. `uri` says where the bundle lies, `digest` is the sha256 of its manifest."""

    model: str
    version: str
    uri: str
    digest: str
    run_id: str
    created: float  # seconds since 1970
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""  # the model card, as far as MLflow keeps it


def model_name(robot: str) -> str:
    """The registered model of a robot: `lingbot-vla-<robot id>`."""
    return MODEL_PREFIX + robot


class RegistryUnavailable(UserError):
    """The registry cannot be reached, or refused."""


class NoModel(UserError):
    """The registry answers, and holds no model."""


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the sqlite file in LINGBOT_HOME."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state.home() / 'mlflow.db'}"


def shown_uri() -> str:
    """The address of the registry without what may be a password."""
    scheme, mark, rest = tracking_uri().partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


@contextlib.contextmanager
def registry_lock() -> Iterator[None]:
    """Held while something is looked up and then written, so that two processes here do not both write it."""
    with (state.make_home() / "registry.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def log_run(
    *,
    name: str,
    key: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Records a finished run and returns its id; a run with the same `key` is returned as it is.

    `texts` are small files that the run keeps, by name.
    """
    with connection() as client:
        from mlflow.entities import Metric, Param, RunTag

        experiment = _experiment(client)
        found = client.search_runs([experiment], f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = client.create_run(experiment, run_name=name)
        for file, text in sorted(texts.items()):
            client.log_text(run.info.run_id, text, file)
        client.log_batch(
            run.info.run_id,
            params=[Param(k, str(v)[:_MAX_PARAMETER]) for k, v in sorted(parameters.items())],
            metrics=[Metric(k, float(v), run.info.start_time, 0) for k, v in sorted(metrics.items())],
            # The key last in one call with the rest: a run that was killed before it is not found, and made again.
            tags=[RunTag(k, v) for k, v in sorted({**tags, _KEY_TAG: key}.items())],
        )
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def register_version(
    model: str, *, uri: str, digest: str, tags: Mapping[str, str], identity: tuple[str, ...] = (), run_id: str = ""
) -> ModelVersion:
    """Registers a bundle; a version with the same digest and the same `identity` tags is returned instead of a second.

    Args:
        model: registered model, made when it is new.
        uri: where the bundle lies.
        digest: of the bundle.
        tags: lineage and evidence.
        identity: names of tags that must be equal too for two registrations to be the same version.
        run_id: of MLflow, when the version comes from one.
    """
    with connection() as client, registry_lock():
        wanted = {_DIGEST_TAG: digest, **{name: tags[name] for name in identity}}
        for version in _versions(client, model):
            if wanted.items() <= version.tags.items():
                return version
        _make_model(client, model)
        made = client.create_model_version(model, source=uri, run_id=run_id or None, tags={**tags, _DIGEST_TAG: digest})
        return _get(client, model, str(made.version))


def tag_version(version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Adds tags to a version, or changes them."""
    with connection() as client:
        for name, value in sorted(tags.items()):
            client.set_model_version_tag(version.model, version.version, name, value)


def list_models() -> tuple[str, ...]:
    """Names of the registered models of this project."""
    with connection() as client:
        found = _pages(lambda token: client.search_registered_models(page_token=token))
        return tuple(sorted(model.name for model in found if model.name.startswith(MODEL_PREFIX)))


def only_model() -> str:
    """The registered model, when there is just one.

    Raises:
        NoModel: there is none.
        UserError: there are several.
    """
    models = list_models()
    if not models:
        raise NoModel(f"no model is registered in {shown_uri()}: `lingbot run` registers one")
    if len(models) > 1:
        raise UserError(f"several models are registered, choose one with --model: {', '.join(models)}")
    return models[0]


def list_versions(model: str) -> tuple[ModelVersion, ...]:
    """All versions of a model, oldest first; none when there is no such model."""
    with connection() as client:
        return _versions(client, model)


def get_version(model: str, version: str) -> ModelVersion:
    """One version.

    Raises:
        UserError: there is no such model or version; with the nearest name.
    """
    versions = {found.version: found for found in list_versions(model)}
    number = version.removeprefix("v")
    if number in versions:
        return versions[number]
    if not versions:
        models = list_models()
        raise unknown_name("model", model, models) if models else UserError(f"model {model} has no version yet")
    raise unknown_name(f"version of {model}", version, versions)


def version_of_alias(model: str, alias: str) -> ModelVersion | None:
    """The version that an alias points at; None when nobody set it (or its version was deleted)."""
    return next((version for version in list_versions(model) if alias in version.aliases), None)


def set_alias(model: str, alias: str, version: str) -> None:
    """Points an alias at a version. `components.promote` is what may call this: it keeps the ledger.

    Raises:
        UserError: the name is reserved by MLflow.
    """
    check_alias(alias)
    with connection() as client:
        client.set_registered_model_alias(model, alias, version)


def registry_id() -> str:
    """A name of this registry that no other has, the same from wherever it is reached: for what lies in a storage that
    registries share."""
    with connection() as client:
        made = client.get_experiment(_experiment(client))
        identity = f"{made.experiment_id} {made.creation_time} {made.artifact_location}"
        return hashlib.sha256(identity.encode()).hexdigest()[:12]


def tag_model(model: str, tags: Mapping[str, str]) -> None:
    """Adds tags to a registered model, or changes them."""
    with connection() as client:
        for name, value in sorted(tags.items()):
            client.set_registered_model_tag(model, name, value)


def model_tags(model: str) -> dict[str, str]:
    """The tags of a registered model; none when there is no such model."""
    with connection() as client:
        found = client.search_registered_models(f"name='{model}'", max_results=1)
        return dict(found[0].tags) if found else {}


def describe_version(version: ModelVersion, text: str) -> None:
    """Sets what the registry's page shows of a version, as Markdown."""
    with connection() as client:
        client.update_model_version(version.model, version.version, description=text)


def check_alias(alias: str) -> None:
    """UserError for a name that the registry would not take, told before anything is written."""
    if alias in _RESERVED_ALIASES or (alias[:1] == "v" and alias[1:].isdigit()):
        raise UserError(f"alias '{alias}' is reserved by MLflow ('latest', 'v3' and the like): choose another name")
    if not _ALIAS.match(alias):
        raise UserError(f"alias '{alias}' must hold letters, digits, dashes and underscores only: choose another name")


@contextlib.contextmanager
def connection() -> Iterator["MlflowClient"]:
    """The client; what only the user can put right becomes one sentence."""
    _quiet()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    uri, shown = tracking_uri(), shown_uri()
    try:
        yield _client(uri, str(state.home()))
    except (MlflowException, DatabaseError) as error:
        first_line = _cause(str(error).splitlines()[0]).replace(uri, shown).strip().rstrip(".")
        if "Connection refused" in first_line or "Name or service not known" in first_line:
            first_line += "; start its server, or set MLFLOW_TRACKING_URI to one that answers"
        elif type(error) is DatabaseError:  # not its subclass for what may pass: the file itself is no database
            first_line += "; restore it from a copy"
        raise RegistryUnavailable(f"the registry {shown} refused or cannot be reached: {first_line}") from error


def _cause(line: str) -> str:
    """What an error of a connection comes from, out of what the layers above wrapped it in."""
    found = _CAUSED_BY.search(line)
    return line if found is None else found[1]


def _quiet() -> None:
    """Settings that count before MLflow is imported: no telemetry, short waits, no log of its migrations, nor of what
    it raises as well (a traceback at each poll of an endpoint)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # The library's own default keeps a caller waiting for minutes when the server is away.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for noisy in ("mlflow.tracking", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for twice in ("mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(twice).setLevel(logging.CRITICAL)


@cache
def _client(uri: str, home: str) -> "MlflowClient":
    """One client for each registry and state folder of this process."""
    from mlflow.tracking import MlflowClient

    with registry_lock():  # the first client makes the tables: two at once would fail
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
    return client


def _experiment(client: "MlflowClient") -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    with registry_lock():
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        # Without a place of its own, MLflow makes ./mlruns wherever the command was started.
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else (state.home() / "mlflow-artifacts").as_uri()
        return str(client.create_experiment(EXPERIMENT, artifact_location=place))


def _make_model(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _versions(client: "MlflowClient", model: str) -> tuple[ModelVersion, ...]:
    found = _pages(lambda token: client.search_model_versions(f"name='{model}'", page_token=token))
    if not found:
        return ()
    aliases: dict[str, list[str]] = {}
    for alias, version in client.get_registered_model(model).aliases.items():
        aliases.setdefault(str(version), []).append(alias)
    versions = [_model_version(entry, tuple(sorted(aliases.get(str(entry.version), ())))) for entry in found]
    return tuple(sorted(versions, key=lambda version: int(version.version)))


def _get(client: "MlflowClient", model: str, version: str) -> ModelVersion:
    return next(found for found in _versions(client, model) if found.version == version)


def _model_version(entry: Any, aliases: tuple[str, ...]) -> ModelVersion:
    tags = dict(entry.tags)
    return ModelVersion(
        model=entry.name,
        version=str(entry.version),
        uri=entry.source,
        digest=tags.get(_DIGEST_TAG, ""),
        run_id=entry.run_id or "",
        created=entry.creation_timestamp / 1000,
        aliases=aliases,
        tags=tags,
        description=entry.description or "",
    )


def _pages(search: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found
