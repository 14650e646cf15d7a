"""`lingbot serve`: actions for robots over HTTP and websocket, from the champion or from a bundle folder."""

import argparse

from components.endpoint.options import add_arguments

HELP = "serve a policy to robots: the champion, or a bundle"


def configure(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from components.endpoint.options import options_from
    from components.endpoint.server import serve

    return serve(options_from(args), announce=lambda line: print(line, flush=True))
