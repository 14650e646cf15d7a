"""Registers the exported policy: its bundle goes to storage, its digest, evidence and lineage to the registry."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import state
from components.adapters import tracking
from components.bundles import has_bundle, keep_bundle, keep_evaluation
from components.liveness import current_run
from components.promote.evidence import keep_trials
from components.provenance_files import FILE as PROVENANCE
from components.provenance_files import keep_beside_bundle, of_this_process
from components.register.card import model_card, with_verdict
from components.register.lineage import chain, git_commit, lineage_tags
from model.errors import UserError
from model.progress import Progress

NAME = "register"
INPUTS = ("policy", "evaluation")
SCHEMA_VERSION = 1
VERSION_FILE = "version.json"
CARD = "MODEL_CARD.md"
# Two registrations of the same bundle, judged by the same evaluation, are one version.
_IDENTITY = ("evaluation_digest",)
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """`model_name` is the registered model; empty stands for `lingbot-vla-<robot id>`."""

    model_name: str = ""

    def __post_init__(self) -> None:
        if self.model_name and not (
            _MODEL_NAME.match(self.model_name) and self.model_name.startswith(tracking.MODEL_PREFIX)
        ):
            raise UserError(
                f"register.model_name '{self.model_name}' must begin with '{tracking.MODEL_PREFIX}' and hold letters, "
                f"digits, dots, dashes and underscores only; leave it empty for {tracking.MODEL_PREFIX}<robot>"
            )


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Stores and registers the bundle of `policy` with the verdict of `evaluation`; writes `version.json`.

    Raises:
        UserError: the bundle's bytes are damaged, the evaluation is of another bundle, or the registry is away.
    """
    progress.message("verifying and storing the bundle")
    digest, uri = keep_bundle(inputs["policy"] / "bundle")
    manifest = json.loads((inputs["policy"] / "bundle" / "manifest.json").read_text())
    content = (inputs["evaluation"] / "evaluation.json").read_bytes()
    evaluation = json.loads(content)
    _check_same_bundle(evaluation, digest)
    evaluation_digest = keep_evaluation(content)
    keep_trials(inputs["evaluation"])  # whoever judges the version later, by hand too, reads them

    robot = manifest["contract"]["robot"]
    model = parameters.model_name or tracking.model_name(robot)
    lineage = lineage_tags(inputs)
    tags = {
        "robot": robot,
        "task": str(evaluation.get("task") or ""),
        "evaluation_digest": evaluation_digest,
        "normalization_digest": manifest["contract"]["normalization_digest"],
        **lineage,
    }
    made_from = of_this_process({name: made.parameters for name, made in chain(inputs).items()})
    data = made_from["data"] or {}
    where_from = {
        "dataset_tag": data.get("tag"),
        "dataset_commit": data.get("commit"),
        "git_commit": git_commit(),
        "run_id": current_run(),
        "provenance_digest": keep_beside_bundle(digest, made_from),
        "dirty": "true" if made_from["code"]["dirty"] else None,
    }
    tags |= {name: value for name, value in where_from.items() if value}
    card = model_card(
        model=model,
        digest=digest,
        own=(inputs["policy"] / "bundle" / CARD).read_text(),
        contract=manifest["contract"],
        evaluation=evaluation,
        tags=tags,
        provenance=made_from,
    )
    progress.message(f"registering {model}")
    run_id = tracking.log_run(
        name=f"{model} {digest[:12]}",
        key=hashlib.sha256(f"{model} {digest} {evaluation_digest}".encode()).hexdigest(),
        parameters={
            "bundle_digest": digest,
            **{k: manifest["contract"][k] for k in ("preset", "parameters", "horizon")},
        },
        metrics=evaluation_metrics(evaluation),
        tags=tags,
        texts={PROVENANCE: json.dumps(made_from, indent=1) + "\n", CARD: card},
    )
    version = tracking.register_version(model, uri=uri, digest=digest, tags=tags, identity=_IDENTITY, run_id=run_id)
    if not version.description:  # a version that was registered before keeps its card, and what the gate said
        tracking.describe_version(version, with_verdict(card, None))
    # Only what follows from the inputs and the registry's number: the commit and the run are tags of the version.
    state.write_json(
        output / VERSION_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "model": model,
            "version": version.version,
            "bundle_digest": digest,
            "evaluation_digest": evaluation_digest,
            "robot": robot,
            "lineage": lineage,
        },
    )
    return {"model": model, "version": version.version, "bundle_digest": digest, "evaluation_digest": evaluation_digest}


def verify(output: Path) -> bool:
    """Whether the registry still has the version that the finished step wrote down, and its bundle."""
    written = json.loads((output / VERSION_FILE).read_text())
    found = next((v for v in tracking.list_versions(written["model"]) if v.version == written["version"]), None)
    return (
        found is not None
        and found.digest == written["bundle_digest"]
        and found.tags.get("evaluation_digest") == written["evaluation_digest"]
        and has_bundle(found.digest, found.uri)
    )


def evaluation_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation as flat metrics: `closed_loop/policy/sr` and so on."""
    metrics: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, child in value.items():
                walk(f"{prefix}/{key}" if prefix else str(key), child)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            metrics[prefix] = float(value)

    for part in ("closed_loop", "paired", "open_loop"):
        walk(part, evaluation.get(part) or {})
    return metrics


def _check_same_bundle(evaluation: Mapping[str, Any], digest: str) -> None:
    evaluated = evaluation["bundle_digest"]
    if evaluated != digest:
        raise UserError(
            f"the evaluation is of bundle {evaluated[:12]}, the policy to register is {digest[:12]}: evaluate this one"
        )
