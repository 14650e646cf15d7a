"""`lingbot models lineage`: dataset tag -> run -> version -> endpoint, from whichever end one has."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.register.trace import Lineage

HELP = "where a version comes from and where it serves; or what came of a dataset, a run or a commit"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reference",
        help="version or alias; or, the other way, a dataset's or an experiment's tag, a run (or `last`), a commit, "
        "the digest of a dataset or, as replies have it, of a bundle, or an endpoint",
    )
    parser.add_argument("--model", default="", metavar="NAME", help="registered model (all)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from components.register.trace import find_versions, trace

    releases = _releases()
    digests = [digest for tag, digest in releases.items() if tag == args.reference]
    versions = find_versions(args.reference, args.model, digests=digests, bundles=_made(args.reference))
    lineages = [
        trace(version, releases=[t for t, digest in releases.items() if digest == version.tags.get("dataset_digest")])
        for version in versions
    ]
    if args.json:
        print(json.dumps([lineage.to_json() for lineage in lineages], indent=1, ensure_ascii=False))
        return 0
    for lineage in lineages:
        _print(lineage)
    return 0


def _releases() -> dict[str, str]:
    """Tag -> digest of the dataset that it released, of this checkout; none outside of git."""
    from components import state
    from components.adapters.versioning import Git
    from pipelines.versions.tags import digests, releases

    git = Git(state.checkout())
    found = releases(git, "data", None) if git.is_checkout else []
    return {release.tag: digest for release in found if (digest := digests(release.record).get("dataset"))}


def _made(reference: str) -> list[str]:
    """Digest of the bundle that an experiment or a run of this machine made. The version may name another run, which
    made the same bundle first.

    Raises:
        UserError: the run is a study, whose policies are compared and none of them registered.
    """
    from components import state
    from components.adapters.versioning import Git
    from model.errors import UserError
    from pipelines.history import known_runs, read_run
    from pipelines.shape import STUDY
    from pipelines.versions.targets import load_result

    git = Git(state.checkout())
    is_experiment = reference.startswith("exp/") and git.is_checkout and git.resolve(f"refs/tags/{reference}")
    if not is_experiment and reference not in ("last", *known_runs()):
        return []
    if not is_experiment and (run := read_run(reference))["pipeline"] == STUDY:
        raise UserError(
            f"run {run['id']} is a study, which compares policies and registers none: give the dataset's tag, or a run "
            "that registered a version (`lingbot models list` has them)"
        )
    bundle = load_result(reference).bundle
    return [bundle] if bundle else []


def _print(lineage: "Lineage") -> None:
    facts = lineage.to_json()
    dataset, run, version = facts["dataset"], facts["run"], facts["version"]
    tags = [tag for tag in (dataset["tag"], *dataset["also_released_as"]) if tag]
    print(f"dataset   {', '.join(tags) or 'no tag'}  {_short(dataset['digest'])}  {dataset['uri'] or ''}".rstrip())
    dirty = " with changes" if run["dirty"] else ""
    print(f"  run     {run['id'] or 'by hand'}  commit {_short(run['git_commit'])}{dirty}")
    if run["command"]:
        print(f"          {' '.join(run['command'])}")
    if run["steps"]:
        print("          " + ", ".join(f"{name} {_short(value)}" for name, value in run["steps"].items()))
    verdict = _verdict(lineage)
    print(f"  version {version['model']} {version['version']}  bundle {_short(version['bundle'])}  {verdict}")
    for alias, role in facts["routes"].items():
        print(f"  alias   '{alias}'" + (f", as its {role}" if role != "champion" else ""))
    for entry in lineage.entries:
        print(f"          {entry.time}  {entry.action} '{entry.alias}': {entry.source or '-'} -> {entry.target or '-'}")
    for serving in lineage.endpoints:
        print(f"  endpoint {serving.endpoint}  {_role(serving.version == version['version'])} since {serving.since}")
    if not lineage.endpoints:
        print("  endpoint none serves it now")
    for fault in lineage.faults:
        print(f"  fault   {fault}")


def _role(champion: bool) -> str:
    return "answers" if champion else "beside the champion"


def _verdict(lineage: "Lineage") -> str:
    from components.promote.verdicts import stored_verdict

    verdict: Mapping[str, Any] | None = stored_verdict(lineage.version)
    if verdict is None:
        return "not judged"
    return f"verdict {'passed' if verdict['promote'] else 'refused'} {_short(verdict.get('digest'))}"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"
