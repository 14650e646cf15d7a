"""`lingbot step`: one step, outside of a run. What dvc.yaml, images and launchers call."""

import argparse
from pathlib import Path

from pipelines.options import add_parameter_options, parameters_of

HELP = "run one step; its inputs are what the steps before it made with the same parameters"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", metavar="NAME", help="for example validate")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=MANIFEST",
        help="the manifest of an input, instead of what the step before it made",
    )
    parser.add_argument(
        "--artifacts",
        type=Path,
        metavar="FOLDER",
        help="read inputs from FOLDER/<step> where they are there, copy the result to FOLDER/NAME, and its figures to "
        "metrics/ and plots/ beside FOLDER (see dvc.yaml)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the reference to the result there")
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    from components import records, state
    from components.exchange import export_artifact
    from components.execution import execute
    from components.steps import get_step
    from pipelines.single import exported_inputs, resolve_inputs
    from pipelines.versions.figures import write_figures

    get_step(args.step)
    state.make_home()
    parameters = parameters_of(args)
    exported = exported_inputs(args.step, parameters, args.artifacts) if args.artifacts else []
    step, inputs = resolve_inputs(args.step, parameters, [*exported, *args.input])
    artifact = execute(step, inputs, parameters.steps[step.name])
    if args.artifacts:
        export_artifact(artifact, args.artifacts / step.name)
        write_figures(artifact, args.artifacts.absolute().parent)
    if args.output is not None:
        state.write_json(args.output, artifact.reference())
    print(records.data_folder(step.name, artifact.fingerprint))
    return 0
