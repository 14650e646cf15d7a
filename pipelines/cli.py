"""`lingbot`: the command line. A command is a module of `pipelines.commands`; only the one called is imported."""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from model.errors import UserError, unknown_name

# In the order of help: trigger, reproduce, data and evidence, promote and serve.
COMMANDS = (
    "run", "runs", "trigger", "compile", "step", "reproduce", "compare", "data", "annotate", "evaluate", "checkpoint",
    "bundle", "models", "serve", "keys", "plan", "bench", "storage", "doctor",
)  # fmt: skip


# Of a file that a command was told to read or write: the person who named it can put it right.
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


def load_command(name: str) -> ModuleType:
    """The module of a command: HELP, configure(parser), run(args)."""
    return importlib.import_module(f"pipelines.commands.{name}")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or of one, which spares importing the others."""
    parser = argparse.ArgumentParser(
        prog="lingbot", description="Robot demonstrations to a promoted, served policy.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in COMMANDS if only is None else (only,):
        module = load_command(name)
        module.configure(commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False))
    return parser


def _unknown_command(name: str) -> UserError:
    """Names the commands that have it as an action: `lingbot replay` is `lingbot models replay`."""
    groups = [command for command, parser in _children(build_parser()).items() if name in _children(parser)]
    if groups:
        found = " or ".join(f"`lingbot {command} {name}`" for command in groups)
        return UserError(f"unknown command '{name}': it is an action, type {found}")
    return unknown_name("command", name, COMMANDS)


def _children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands, or the actions, that a parser tells apart."""
    return {
        name: child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, child in action.choices.items()
    }


class _Version(argparse.Action):
    """Looks the version up when it is asked for: reading the installed distributions takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"lingbot {version()}")
        parser.exit()


def version() -> str:
    """Of the installed distribution; a checkout that is not installed says so."""
    import importlib.metadata

    try:
        return importlib.metadata.version("lingbot-pipelines")
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout that is not installed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 (the user can put it right), 1 (a fault), 130 (Ctrl-C)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        first = arguments[0] if arguments else "--help"
        if not first.startswith("-") and first not in COMMANDS:
            raise _unknown_command(first)
        from components.adapters.versioning import TELEMETRY_OFF

        for name, value in TELEMETRY_OFF.items():
            os.environ.setdefault(name, value)
        args = build_parser(None if first.startswith("-") else first).parse_args(arguments or ["--help"])
        return int(load_command(args.command).run(args))
    except UserError as error:
        print(f"lingbot: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output left (`lingbot runs list | head`); Python would complain again at exit.
        sys.stdout = None
        return 1
    except OSError as error:
        from components.execution import is_full_disk

        if is_full_disk(error):
            print(f"lingbot: the disk is full ({error}): free some space there and run again", file=sys.stderr)
            return 2
        if error.errno not in _NOT_ALLOWED or error.filename is None:
            raise
        said = f"{error.filename} cannot be read or written ({error.strerror}): change that, or name another place"
        print(f"lingbot: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lingbot: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
