"""KFP component of the step `evaluate`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["simulation"], packages_to_install=[], install_kfp_package=False)
def evaluate(
    policy: Input[Model],
    packed: Input[Dataset],
    policy_digest: str,
    packed_digest: str,
    parameters: dict,
    code_version: str,
    evaluation: Output[Artifact],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Measures the bundle against its baselines, in the simulator where there is one.

    Args:
        policy: reference to the policy artefact.
        packed: reference to the packed artefact.
        policy_digest: its digest.
        packed_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        evaluation: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"policy": (policy.path, policy_digest), "packed": (packed.path, packed_digest)}
    run_component("evaluate", inputs, parameters, code_version, evaluation, digest)
