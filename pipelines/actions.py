"""Commands that are groups of actions: `lingbot data inspect` is the module `pipelines.commands.data_inspect`."""

import argparse
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Actions:
    """The actions of a command, in the order of help. Each is a module with HELP, configure(parser), run(args)."""

    command: str
    names: Sequence[str]

    def load(self, name: str) -> ModuleType:
        return importlib.import_module(f"pipelines.commands.{self.command}_{name}")

    def configure(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
        for name in self.names:
            module = self.load(name)
            module.configure(actions.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False))

    def run(self, args: argparse.Namespace) -> int:
        return int(self.load(args.action).run(args))
