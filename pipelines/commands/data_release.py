"""`lingbot data release NAME`: the data under a tag, so that others train on the same bytes."""

import argparse

from pipelines.options import add_parameter_options, parameters_of

HELP = "make the data, keep its bytes in DVC's remote, and tag it data/NAME-vN"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="for example cubes: the tag is data/cubes-v1, then -v2")
    parser.add_argument("--run", metavar="RUN", help="the data of this finished run (or `last`), as it is")
    parser.add_argument(
        "--remote", metavar="URL", help="a folder or s3://bucket/prefix instead of DVC's default remote"
    )
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.versions.release import check_can_release, made_by_run, make_data, release_data

    if not args.run:
        check_can_release(args.name)
    made = made_by_run(args.run) if args.run else make_data(parameters_of(args))
    release = release_data(args.name, made, remote=args.remote)
    totals = release.record["totals"]
    what = f"{totals['files']} files, {totals['bytes'] / 2**20:.1f} MiB"
    if release.new:
        print(f"released {release.tag}: commit {release.commit[:12]}, {what}, every byte in DVC's remote")
        print(f"share it with `git push origin {release.tag}`; repeat it with `lingbot reproduce {release.tag}`")
    else:
        print(f"{release.tag} holds exactly this already (commit {release.commit[:12]}, {what}): nothing was released")
    return 0
