"""`lingbot models`: what is registered, what is promoted, on what evidence, and how to take it back."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.arguments import number
from pipelines.commands import models_lineage, models_replay

if TYPE_CHECKING:
    from components.adapters.tracking import ModelVersion
    from components.ledger import Entry
    from components.promote.gate import Verdict

HELP = "list, show, promote and roll back model versions; canary, shadow, history, lineage, verification"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--model", default="", metavar="NAME", help="registered model, when there are several")
        return action

    listing = add("list", "the versions, their aliases and their evidence")
    show = add("show", "all that is known of one version")
    promote = add("promote", "point an alias at a version, if the gate passes")
    rollback = add("rollback", "point the alias at the version before, or at an earlier holder")
    canary = add("canary", "give a version a share of the new episodes, if the gate passes")
    shadow = add("shadow", "let a version answer beside the champion, compared and never sent")
    history = add("history", "the ledger: who moved which alias, when, on what evidence")
    verify = add("verify", "check that ledger, aliases, bundles, evidence and what endpoints serve agree")
    models_lineage.configure(actions.add_parser("lineage", help=models_lineage.HELP, description=models_lineage.HELP))
    models_replay.configure(actions.add_parser("replay", help=models_replay.HELP, description=models_replay.HELP))
    for action in (show, promote):
        action.add_argument("version", help="number of the version, or an alias that points at it")
    for action in (canary, shadow):
        action.add_argument("version", nargs="?", default="", help="number of the version")
        action.add_argument("--end", action="store_true", help="end it")
    canary.add_argument("share", nargs="?", type=number, help="of the new episodes, between 0 and 1")
    for action in (promote, rollback, canary, shadow):
        action.add_argument("--alias", default="champion", help="the alias (champion)")
    history.add_argument("--alias", default=None, help="only this alias")
    for action in (promote, canary):
        action.add_argument("--override", action="store_true", help="although the gate does not pass; recorded")
        action.add_argument("--reason", default="", metavar="TEXT", help="why, for --override")
        action.add_argument("--judge-again", action="store_true", help="by the gate that ships, whatever was stored")
    shadow.add_argument("--reason", default="compared beside the champion", metavar="TEXT", help="why; recorded")
    verify.add_argument("--deep", action="store_true", help="read every byte of bundles in the shared storage too")
    rollback.add_argument("--to", default=None, metavar="VERSION", help="an earlier holder; the one before by default")
    rollback.add_argument("--reason", default="rolled back by hand", metavar="TEXT", help="why; recorded")
    show.add_argument("--card", action="store_true", help="the model card")
    for action in (listing, show, history):
        action.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    actions = {
        "list": _list,
        "show": _show,
        "promote": _promote,
        "rollback": _rollback,
        "canary": _canary,
        "shadow": _shadow,
        "history": _history,
        "verify": _verify,
        "lineage": models_lineage.run,
        "replay": models_replay.run,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from components.adapters import tracking

    models = _asked_for(args.model, tracking.list_models())
    versions = [version for model in models for version in tracking.list_versions(model)]
    if args.json:
        return _print_json([_facts(version) for version in versions])
    if not versions:
        print(f"no model is registered in {tracking.shown_uri()}: `lingbot run` registers one")
    roles = {model: _roles(model) for model in models} if versions else {}
    for version in versions:
        held = (*version.aliases, *roles[version.model].get(version.version, ()))
        aliases = f" [{', '.join(held)}]" if held else ""
        print(f"{version.model}  {version.version}{aliases}  {_evidence(version)}  bundle {version.digest[:12]}")
    return 0


def _roles(model: str) -> dict[str, list[str]]:
    """Version -> what it is beside an alias's holder, by the ledger."""
    from components.ledger import Ledger
    from components.routing_state import standing

    history, roles = Ledger().history(model), dict[str, list[str]]()
    for alias in sorted({entry.alias for entry in history}):
        now = standing([entry for entry in history if entry.alias == alias])
        if now.canary is not None:
            roles.setdefault(str(now.canary.target), []).append(f"canary of {alias}, {now.canary.share:g}")
        if now.shadow is not None:
            roles.setdefault(str(now.shadow.target), []).append(f"shadow of {alias}")
    return roles


def _show(args: argparse.Namespace) -> int:
    version = _find(args)
    if args.card:
        print(version.description or f"version {version.version} has no card: it was registered before there were any")
        return 0
    facts = _facts(version)
    if args.json:
        return _print_json(facts)
    print(f"{version.model} version {version.version}" + "".join(f" [{alias}]" for alias in version.aliases))
    print(f"  registered  {_time(version.created)}")
    print(f"  bundle      {version.digest}")
    print(f"  at          {version.uri}")
    print(f"  evidence    {_evidence(version)}")
    print(f"  verdict     {_verdict(facts['verdict'])}")
    for name, value in sorted(facts["tags"].items()):
        print(f"  {name}: {value}")
    return 0


def _promote(args: argparse.Namespace) -> int:
    from components.promote.moves import promote

    override = _override(args)
    version = _find(args)
    verdict = _judged(version, args)
    entry = promote(version, args.alias, verdict, override_reason=override)
    for warning in verdict.warnings:
        print(f"warning: {warning}")
    if entry is None:
        print(f"'{args.alias}' of {version.model} is at version {version.version} already")
    else:
        _print_move(entry)
    return 0


def _rollback(args: argparse.Namespace) -> int:
    from components.adapters import tracking
    from components.promote.moves import rollback

    model = args.model or tracking.only_model()
    _print_move(rollback(model, args.alias, to=args.to, reason=args.reason))
    return 0


def _canary(args: argparse.Namespace) -> int:
    from components.adapters import tracking
    from components.ledger import CANARY
    from components.promote.moves import end, start_canary
    from model.errors import UserError

    if args.end:
        if args.version:
            raise UserError("canary --end ends the one there is: leave out the version")
        model = args.model or tracking.only_model()
        _print_move(end(model, args.alias, CANARY, args.reason or "ended by hand"))
        return 0
    if not args.version or args.share is None:
        raise UserError("canary needs VERSION and SHARE, `lingbot models canary 3 0.1` for instance, or --end")
    override = _override(args)
    version = _find(args)
    _print_move(start_canary(version, args.alias, args.share, _judged(version, args), override_reason=override))
    return 0


def _shadow(args: argparse.Namespace) -> int:
    from components.adapters import tracking
    from components.ledger import SHADOW
    from components.promote.moves import end, start_shadow
    from model.errors import UserError

    if args.end:
        if args.version:
            raise UserError("shadow --end ends the one there is: leave out the version")
        _print_move(end(args.model or tracking.only_model(), args.alias, SHADOW, "ended by hand"))
        return 0
    if not args.version:
        raise UserError("shadow needs VERSION, `lingbot models shadow 3` for instance, or --end")
    _print_move(start_shadow(_find(args), args.alias, args.reason))
    return 0


def _override(args: argparse.Namespace) -> str | None:
    """The reason of --override; None without it."""
    from model.errors import UserError

    if args.override and not args.reason.strip():
        raise UserError("--override needs --reason TEXT: the ledger keeps why the gate was overridden")
    if args.reason and not args.override:
        raise UserError("--reason is for --override: without it the gate's own reasons are recorded")
    return args.reason if args.override else None


def _judged(version: "ModelVersion", args: argparse.Namespace) -> "Verdict":
    from components.promote.gate import load_policy
    from components.promote.verdicts import judge, standing_verdict

    if args.judge_again:
        return judge(version, args.alias, load_policy())
    return standing_verdict(version, args.alias)


def _history(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from components.ledger import Ledger

    entries = Ledger().history(args.model or None, args.alias)
    if args.json:
        return _print_json([asdict(entry) for entry in entries])
    if not entries:
        print("the ledger has no entry" + "".join(f" of '{name}'" for name in (args.model, args.alias) if name))
    for entry in entries:
        evidence = f"  evidence {entry.evidence[:12]}" if entry.evidence else ""
        print(f"{entry.sequence:4d}  {entry.time}  {entry.who}  {_move(entry)}{evidence}")
        for reason in entry.reasons:
            print(f"      {reason}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from components.adapters import tracking
    from components.ledger import Ledger
    from components.promote.drift import check

    broken = Ledger().verify()
    # Of a registry that was lost, the ledger still knows the models.
    recorded = [] if broken else [entry.model for entry in Ledger().entries()]
    models = _asked_for(args.model, sorted({*tracking.list_models(), *recorded}))
    faults = [f"{model}: {fault}" for model in models for fault in check(model, deep=args.deep)] or broken
    for fault in faults:
        print(fault)
    if faults:
        return 1
    versions = sum(len(tracking.list_versions(model)) for model in models)
    print(
        f"the ledger ({len(Ledger().entries())} entries), the aliases, {versions} bundles with their evidence and what "
        f"endpoints serve agree"
    )
    return 0


def _asked_for(model: str, known: Sequence[str]) -> Sequence[str]:
    """The one that --model names; all without it."""
    from model.errors import unknown_name

    if model and model not in known:
        raise unknown_name("model", model, known)
    return (model,) if model else known


def _find(args: argparse.Namespace) -> "ModelVersion":
    """The version that a number or an alias names."""
    from components.adapters import tracking

    model = args.model or tracking.only_model()
    held = tracking.version_of_alias(model, args.version)
    return held if held is not None else tracking.get_version(model, args.version)


def _facts(version: "ModelVersion") -> dict[str, Any]:
    from dataclasses import asdict

    from components.promote.verdicts import VERDICT_TAG, stored_verdict

    facts = asdict(version)
    facts["tags"] = {name: value for name, value in version.tags.items() if name != VERDICT_TAG}
    return {**facts, "aliases": list(version.aliases), "verdict": stored_verdict(version)}


def _evidence(version: "ModelVersion") -> str:
    """SR with its interval, from the stored evaluation."""
    from components.promote.verdicts import evaluation_of
    from model.errors import UserError

    try:
        evaluation = evaluation_of(version)
    except UserError as error:
        return f"evidence lost ({error})"
    closed_loop = (evaluation or {}).get("closed_loop")
    if not closed_loop:
        return "no closed-loop evidence"
    policy = closed_loop["policy"]
    return (
        f"SR {policy['sr']:.0%} [{policy['sr_low']:.0%}, {policy['sr_high']:.0%}] "
        f"on {policy['trials']} x {version.tags.get('task', '')}"
    )


def _verdict(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return "no gate has seen it"
    return ("passed: " if verdict["promote"] else "not promoted: ") + "; ".join(verdict["reasons"])


def _move(entry: "Entry") -> str:
    share = f" ({entry.share:g} of new episodes)" if entry.share is not None else ""
    moved = f"{entry.source or 'nothing'} -> {entry.target or 'nothing'}"
    return f"{entry.action} {entry.model} '{entry.alias}': {moved}{share}"


def _print_move(entry: "Entry") -> None:
    print(_move(entry))
    for reason in entry.reasons:
        print(f"  {reason}")
    print("endpoints that follow the alias take it up within seconds; `lingbot models verify` says who does not")


def _time(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _print_json(value: Any) -> int:
    import json

    print(json.dumps(value, indent=1, ensure_ascii=False))
    return 0
