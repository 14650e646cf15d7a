"""KFP component of the step `study`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], packages_to_install=[], install_kfp_package=False)
def study(
    evaluations: Input[list[Artifact]],
    evaluations_digest: list,
    parameters: dict,
    code_version: str,
    study: Output[Artifact],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Joins the evaluations of a study: figures, the power law that they follow, a page.

    Args:
        evaluations: references to the evaluation artefacts, one a trained policy.
        evaluations_digest: their digests, in the same order.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        study: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"evaluations": ([evaluation.path for evaluation in evaluations], evaluations_digest)}
    run_component("study", inputs, parameters, code_version, study, digest)
