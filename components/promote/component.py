"""KFP component of the step `promote`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], packages_to_install=[], install_kfp_package=False)
def promote(
    version: Input[Artifact],
    evaluation: Input[Artifact],
    version_digest: str,
    evaluation_digest: str,
    parameters: dict,
    code_version: str,
    promotion: Output[Artifact],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Moves the alias to the version if the evidence is good enough.

    Args:
        version: reference to the version artefact.
        evaluation: reference to the evaluation artefact.
        version_digest: its digest.
        evaluation_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        promotion: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"version": (version.path, version_digest), "evaluation": (evaluation.path, evaluation_digest)}
    run_component("promote", inputs, parameters, code_version, promotion, digest)
