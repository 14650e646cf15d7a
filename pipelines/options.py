"""Options that say with which parameters and which data a DAG runs: shared by run, compile and step."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.parameters import RunParameters
    from pipelines.profile import Profile

PIPELINES = ("demonstrations_to_policy", "study")


def add_pipeline_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pipeline", nargs="?", default=PIPELINES[0], help=f"one of {', '.join(PIPELINES)} (the default)"
    )


def add_parameter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", type=Path, metavar="FILE", help="instead of params.yaml of the checkout")
    parser.add_argument(
        "--preset", help="demo (the default: params.yaml as it is) or debug (the same DAG in 2 minutes)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter, for example pretrain.steps=200"
    )
    parser.add_argument("--dataset", metavar="URI", help="ingest this LeRobot dataset (path or s3://), do not collect")
    parser.add_argument(
        "--from-tag", metavar="TAG", help="ingest the dataset of this DVC tag, for example data/cubes-v1"
    )
    parser.add_argument(
        "--depth-checkpoint", metavar="PATH", help="weights of the depth teacher instead of seeded ones"
    )


def add_image_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--images", type=Path, metavar="FILE", help="images by digest, as containers/build.py --push writes them"
    )
    parser.add_argument(
        "--allow-tags", action="store_true", help="take images that are named by a tag, which can be moved"
    )


def profile_of(args: argparse.Namespace) -> "Profile":
    """The profile that the options name, with the images that they give.

    Raises:
        UserError: there is none, or pods would run images that can be moved under them.
    """
    from model.errors import UserError
    from pipelines.profile import load_images, load_profile

    profile = load_profile(args.profile)
    if args.images:
        profile = profile.with_images(load_images(args.images))
    if profile.runner == "cluster" and profile.tagged() and not args.allow_tags:
        raise UserError(
            f"the images of {', '.join(profile.tagged())} are named by tags, under which others can be pushed: give "
            "--images FILE (containers/build.py --push REGISTRY writes it), or --allow-tags"
        )
    return profile


def check_pipeline(name: str) -> None:
    from model.errors import unknown_name

    if name not in PIPELINES:
        raise unknown_name("pipeline", name, PIPELINES)


def parameters_of(args: argparse.Namespace, fetch: Callable[[str], str] | None = None) -> "RunParameters":
    """The parameters that the options stand for; --set comes last and wins.

    Args:
        args: of `add_parameter_options`.
        fetch: tag -> the address of its dataset; when left out, a folder here into which it is fetched.

    Raises:
        UserError: an option or a parameter is wrong. No data is fetched for it.
    """
    from model.errors import UserError
    from pipelines.parameters import load_parameters

    if args.dataset and args.from_tag:
        raise UserError(f"--dataset {args.dataset} and --from-tag {args.from_tag} both name the data: give one of them")
    dataset = absolute(args.dataset) if args.dataset else args.from_tag
    parameters = load_parameters(args.params, _settings(args, dataset))
    if args.from_tag:
        parameters = load_parameters(args.params, _settings(args, (fetch or _checked_out)(args.from_tag)))
    return parameters


def parameters_for(args: argparse.Namespace, profile: "Profile") -> "RunParameters":
    """`parameters_of`, with the data of --from-tag where the steps of that profile read it: here, or in its storage."""
    if profile.runner == "local" or not args.from_tag:
        return parameters_of(args)
    from pipelines.cluster.staging import stage_release

    return parameters_of(args, lambda tag: stage_release(tag, profile))


def _settings(args: argparse.Namespace, dataset: str | None) -> list[str]:
    """The `KEY=VALUE` settings that the options stand for."""
    settings = []
    if args.preset:
        settings.append(f"preset={args.preset}")
    if dataset:
        settings.append(f"ingest.dataset={dataset}")
    if args.depth_checkpoint:
        settings.append(f"extract_depth_tokens.checkpoint={absolute(args.depth_checkpoint)}")
    return [*settings, *args.set]


def data_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """The tag that the data comes from, with the commit and the digests that it leads to now: a tag can be moved."""
    if not args.from_tag:
        return None
    from pipelines.versions.tags import data_of_release, find_release

    return data_of_release(find_release(args.from_tag))


def absolute(place: str) -> str:
    """An address as it is, a path as an absolute one: steps run in another folder."""
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))


def _checked_out(tag: str) -> str:
    """The folder with the dataset of a DVC tag, fetched and checked."""
    from pipelines.versions.tags import fetch_dataset

    return str(fetch_dataset(tag))
