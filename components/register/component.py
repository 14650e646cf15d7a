"""KFP component of the step `register`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], packages_to_install=[], install_kfp_package=False)
def register(
    policy: Input[Model],
    evaluation: Input[Artifact],
    policy_digest: str,
    evaluation_digest: str,
    parameters: dict,
    code_version: str,
    version: Output[Artifact],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Registers the bundle as a model version, with its lineage.

    Args:
        policy: reference to the policy artefact.
        evaluation: reference to the evaluation artefact.
        policy_digest: its digest.
        evaluation_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        version: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"policy": (policy.path, policy_digest), "evaluation": (evaluation.path, evaluation_digest)}
    run_component("register", inputs, parameters, code_version, version, digest)
