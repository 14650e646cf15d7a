"""`lingbot bundle`: make a bundle to try a client with, or check one."""

import argparse
from pathlib import Path

HELP = "make a bundle with seeded weights, or verify one"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create", help="make a bundle whose weights are seeded: it has learned nothing, and serves to try a client"
    )
    create.add_argument("path", type=Path, help="folder to make; it must not hold files")
    create.add_argument("--preset", default="debug", help="size of the policy (debug)")
    create.add_argument("--robot", default="aloha_sim", help="robot id or alias (aloha_sim)")
    create.add_argument("--seed", type=int, default=0, help="of the weights (0)")
    verify = actions.add_parser("verify", help="check every byte against the manifest, and the golden actions")
    verify.add_argument("path", type=Path, help="bundle folder")


def run(args: argparse.Namespace) -> int:
    return _create(args) if args.action == "create" else _verify(args)


def _create(args: argparse.Namespace) -> int:
    from model.errors import UserError

    if args.path.exists() and (not args.path.is_dir() or any(args.path.iterdir())):
        raise UserError(f"{args.path} exists and is not an empty folder: give a new path")
    from model.bundle import create_bundle

    bundle = create_bundle(args.path, preset=args.preset, robot=args.robot, seed=args.seed)
    print(f"{args.path}: bundle {bundle.digest}, {bundle.contract['parameters']:,} parameters, {bundle.robot.id}")
    print(f"serve it with: lingbot serve --bundle {args.path}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from model.bundle import load_bundle

    bundle = load_bundle(args.path)
    difference = bundle.self_test()
    print(f"{args.path}: bundle {bundle.digest} is whole, {len(bundle.manifest['files'])} files")
    print(f"golden actions reproduced here, largest relative difference {difference:.1e}")
    return 0
