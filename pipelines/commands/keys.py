"""`lingbot keys`: who may ask the endpoint for actions, and who may administer it."""

import argparse
from pathlib import Path

HELP = "add, revoke or list the keys of the endpoint"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a key and show it once; only its digest is kept")
    add.add_argument("name", help="who will use it, as in robot-1")
    add.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="infer (the default) asks for actions, admin reloads and drains; may be given twice",
    )
    revoke = actions.add_parser("revoke", help="take a key out: refused, its connections ended, without a restart")
    revoke.add_argument("name", help="of the key")
    show = actions.add_parser("list", help="names, scopes and dates; a key itself is shown by `add` alone")
    show.add_argument("--json", action="store_true", help="for programs")
    for action in (add, revoke, show):
        action.add_argument(
            "--file", type=Path, metavar="PATH", help="LINGBOT_API_KEYS_FILE, else api-keys.json in LINGBOT_HOME"
        )


def run(args: argparse.Namespace) -> int:
    from components.endpoint.key_file import default_path

    path = args.file if args.file is not None else default_path()
    return {"add": _add, "revoke": _revoke, "list": _list}[args.action](args, path)


def _add(args: argparse.Namespace, path: Path) -> int:
    import os
    import sys

    from components.endpoint.key_file import add_key
    from components.endpoint.keys import INFER
    from components.endpoint.options import KEYS_VARIABLE

    secret = add_key(path, args.name, args.scope or [INFER])
    print(secret)
    print(f"'{args.name}' is in {path}; this key is not shown again", file=sys.stderr)
    if os.environ.get(KEYS_VARIABLE) != str(path):
        print(f"serve with it: export {KEYS_VARIABLE}={path}", file=sys.stderr)
    return 0


def _revoke(args: argparse.Namespace, path: Path) -> int:
    from components.endpoint.key_file import revoke_key

    revoke_key(path, args.name)
    print(f"'{args.name}' is out of {path}: running servers refuse it, and end its connections within a second")
    return 0


def _list(args: argparse.Namespace, path: Path) -> int:
    import json

    from components.endpoint.key_file import list_keys

    keys = list_keys(path)
    if args.json:
        print(json.dumps([{"name": k.name, "scopes": k.scopes, "created": k.created} for k in keys], indent=2))
        return 0
    if not keys:
        print(f"{path} holds no key: make one with `lingbot keys add NAME`")
    width = max((len(key.name) for key in keys), default=0)
    for key in keys:
        print(f"{key.name:<{width}}  {'+'.join(key.scopes):<11}  {key.created or '-'}")
    return 0
