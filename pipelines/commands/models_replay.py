"""`lingbot models replay`: recorded traffic through a candidate, before it is promoted."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.tables import print_table

if TYPE_CHECKING:
    from components.adapters.tracking import ModelVersion
    from components.endpoint.served import Served

HELP = "recorded traffic through a candidate: how it differs from what the robots were sent"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, help="folder that `lingbot serve --record` filled, or a file of it")
    parser.add_argument("--candidate", required=True, metavar="VERSION", help="version, alias, or folder of a bundle")
    parser.add_argument("--model", default="", metavar="NAME", help="registered model, when there are several")
    parser.add_argument("--looks", type=int, default=0, metavar="N", help="observations to replay (0: all)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for replay.json and replay.html")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from components.endpoint.recording import Recording
    from components.endpoint.replay import replay
    from components.progress import LogProgress
    from components.promote.replays import keep_replay
    from model.errors import UserError
    from model.progress import Silent
    from pipelines.report.replay import headline, tiles, write_replay_page

    if args.looks < 0:
        raise UserError(f"--looks is {args.looks}: it must be 0 (all) or more")
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file: name a folder")
    recording = Recording(args.recording)
    recording.metadata()  # what is no recording is said before a policy is loaded
    version, served = _candidate(args.candidate, args.model)
    report = replay(recording, served, most=args.looks, progress=Silent() if args.json else LogProgress("replay"))
    kept = keep_replay(version, report) if version is not None else None
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "replay.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        write_replay_page(report, args.output / "replay.html")
    if args.json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
        return 0
    print(headline(report))
    print_table([["figure", "candidate", "beside"], *(list(tile) for tile in tiles(report))])
    if version is not None and kept is not None:
        print(f"kept with version {version.version} ({kept[:12]}): what a gate with max_replay_divergence reads")
    if args.output is not None:
        print(f"page: {args.output / 'replay.html'}")
    return 0


def _candidate(name: str, model: str) -> "tuple[ModelVersion | None, Served]":
    """The registered version, None for a folder, and what it serves."""
    from components.adapters import tracking
    from components.endpoint.resolve import load_target, resolve
    from components.routing_state import Target

    if Path(name).is_dir():
        return None, resolve(bundle=Path(name), alias="", model="")
    model = model or tracking.only_model()
    version = tracking.version_of_alias(model, name) or tracking.get_version(model, name)
    target = Target(version=version.version, uri=version.uri, digest=version.digest)
    return version, load_target(model, name, target)
