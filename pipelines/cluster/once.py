"""Makes something once although calls fail: no call is repeated while what it may have done is not known.

What Kubeflow lets exist once under a name (experiments, pipelines, versions of a pipeline) is looked up before and
after every attempt. Runs and recurring runs have no such names (kubeflow/pipelines #10446): two callers that both found
none would start two. So a caller first claims the key, by a version of the pipeline that is named after it; the others
wait for what that one makes, and the next of them takes over when nothing came (`Patience.claim`).
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from kfp_server_api import V2beta1Experiment, V2beta1Pipeline
from kfp_server_api.exceptions import ApiException

from components.adapters.api_calls import Object, once, passing, untouched
from pipelines.cluster.api import Kubeflow, explain
from pipelines.ir import load

KEY, CLAIM, OWNER = "lingbot/run-key", "lingbot/claim", "lingbot/claimed-by"  # lines of descriptions
_SHORT = 20  # characters of a key in names: 80 bits


def filtered(field: str, value: str, operation: Literal["EQUALS", "IS_SUBSTRING"] = "EQUALS") -> str:
    """The `filter` of a list."""
    return json.dumps({"predicates": [{"operation": operation, "key": field, "string_value": value}]})


def described(lines: dict[str, str], text: str = "") -> str:
    """A description: a sentence for people, and lines that `description_of` reads."""
    return "\n".join([*([text] if text else []), *(f"{name}: {value}" for name, value in lines.items())])


def description_of(found: Object, name: str) -> str:
    """The value of a line of `described`; empty where there is none."""
    match = re.search(rf"^{re.escape(name)}: (.*)$", found.get("description") or "", re.MULTILINE)
    return match[1] if match else ""


def unique(kfp: Kubeflow, find: Callable[[], Object | None], create: Callable[..., Object], what: str) -> Object:
    """What bears a name that the API lets exist once: the one that is there, or a new one.

    Raises:
        UserError: the API does not take it, or is away for longer than the patience.
    """
    backoff = kfp.backoff()
    while True:
        found = find()
        if found is not None:
            return found
        try:
            return create()
        except kfp.service.failures as error:
            taken = (
                isinstance(error, ApiException) and error.status == 409
            )  # by a call whose answer was lost, or another
            if not taken and not passing(error):
                raise _refused(kfp, error, what) from error
            backoff.wait(error, what)


def single(
    kfp: Kubeflow, find: Callable[[], Sequence[Object]], create: Callable[..., Object], what: str
) -> Sequence[Object]:
    """What has no unique name, for the one caller that may create it: those that are there, or a new one.

    Raises:
        UserError: the API does not take it, or is away for longer than the patience.
    """
    backoff = kfp.backoff()
    while True:
        found = find()
        if found:
            return found
        try:
            made = create()
            return find() or [made]
        except kfp.service.failures as error:
            if not passing(error):
                raise _refused(kfp, error, what) from error
            seen = [] if untouched(error) else _settled(kfp, find)
            if seen:
                return seen
            backoff.wait(error, what)


def _settled(kfp: Kubeflow, find: Callable[[], Sequence[Object]]) -> Sequence[Object]:
    """What a call made whose answer was lost: it may still be at it."""
    end, pauses = time.monotonic() + kfp.patience.settle, kfp.backoff()
    while not (found := find()) and time.monotonic() < end:
        pauses.pause()
    return found


def experiment_id(kfp: Kubeflow) -> str:
    """The experiment that our runs are in; made where there is none."""
    api, name, what = kfp.experiments, kfp.experiment, f"making the experiment '{kfp.experiment}'"
    body = V2beta1Experiment(display_name=name, **kfp.user_namespace)

    def find() -> Object | None:
        listed = kfp.pages(
            api.experiment_service_list_experiments,
            f"looking for the experiment '{name}'",
            "experiments",
            filter=filtered("display_name", name),
            **kfp.user_namespace,
        )
        return next(listed, None)

    made = unique(kfp, find, lambda: once(api.experiment_service_create_experiment, body), what)
    return str(made["experiment_id"])


def pipeline_id(kfp: Kubeflow, name: str) -> str:
    """The pipeline of that name; made, without a version, where there is none."""
    api = kfp.pipelines
    body = V2beta1Pipeline(display_name=name, name=name, **kfp.user_namespace)

    def find() -> Object | None:
        by_name = api.pipeline_service_get_pipeline_by_name
        return kfp.read_or_none(by_name, f"looking for the pipeline '{name}'", name, **kfp.user_namespace)

    what = f"making the pipeline '{name}'"
    made = unique(kfp, find, lambda: once(api.pipeline_service_create_pipeline, body), what)
    return str(made["pipeline_id"])


class Claims:
    """Who may create what belongs to a key. The claim is the pipeline's version that it is created from."""

    def __init__(self, kfp: Kubeflow, key: str, package: Path) -> None:
        """`package` is a compiled pipeline; its bytes become the version."""
        self._kfp, self._key, self._package = kfp, key, package
        self._owner = secrets.token_hex(8)
        self._name = f"run-{key[:_SHORT]}-"
        self._pipeline = pipeline_id(kfp, load(package)[0]["pipelineInfo"]["name"])
        self._seen: dict[int, float] = {}  # number of a claim -> when it was seen first
        self._dead = 0.0  # when the claim of somebody else counts as dead

    def take(self) -> tuple[int, Object] | None:
        """The number and version of the claim, when it is ours; None while somebody else has it."""
        if time.monotonic() < self._dead:
            return None  # versions come with their whole pipeline: they are not asked for at every look
        versions = self._versions(self._name, "IS_SUBSTRING")
        numbered = {int(version["display_name"].removeprefix(self._name)): version for version in versions}
        last = max(numbered, default=0)
        if last and self._ours(numbered[last]):
            return last, numbered[last]
        self._dead = self._seen.setdefault(last, time.monotonic()) + self._kfp.patience.claim
        if last and time.monotonic() < self._dead:
            return None
        self._dead = 0.0
        version = self._make(last + 1)
        return (last + 1, version) if self._ours(version) else None

    def version(self) -> Object:
        """A version of the package that goes by the key, whoever claimed it."""
        return self._make(1)

    def _ours(self, version: Object) -> bool:
        return description_of(version, OWNER) == self._owner

    def _make(self, number: int) -> Object:
        name = f"{self._name}{number}"
        note = described({KEY: self._key, OWNER: self._owner})
        upload = self._kfp.uploads.upload_pipeline_version

        def create() -> Object:
            return once(upload, str(self._package), name=name, pipelineid=self._pipeline, description=note)

        def find() -> Object | None:
            return next(iter(self._versions(name, "EQUALS")), None)

        return unique(self._kfp, find, create, f"uploading {self._package.name}")

    def _versions(self, name: str, operation: Literal["EQUALS", "IS_SUBSTRING"]) -> list[Object]:
        listing = self._kfp.pipelines.pipeline_service_list_pipeline_versions
        what, filter_ = "looking for who claimed the run", filtered("display_name", name, operation)
        return list(self._kfp.pages(listing, what, "pipeline_versions", self._pipeline, filter=filter_))


def _refused(kfp: Kubeflow, error: Exception, what: str) -> Exception:
    refused = kfp.service.refusal(error, what)
    return explain(error, what) if refused is error and isinstance(error, ApiException) else refused
