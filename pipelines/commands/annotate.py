"""`lingbot annotate`: what people do with annotations. Each action is a module, imported when called."""

import argparse
import importlib
from types import ModuleType

HELP = "review annotations, sample them, compare reviewers, and see how diverse they are"

# In the order of help.
ACTIONS = ("review", "export", "import", "sample", "errors", "agreement", "checkpoints", "diversity")


def load_action(name: str) -> ModuleType:
    """The module of an action: HELP, configure(parser), run(args)."""
    return importlib.import_module(f"pipelines.commands.annotate_{name}")


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    for name in ACTIONS:
        module = load_action(name)
        module.configure(actions.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False))


def run(args: argparse.Namespace) -> int:
    return int(load_action(args.action).run(args))
