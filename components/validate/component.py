"""KFP component of the step `validate`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], packages_to_install=[], install_kfp_package=False)
def validate(
    dataset: Input[Dataset],
    dataset_digest: str,
    parameters: dict,
    code_version: str,
    verdict: Output[Artifact],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Checks a dataset and says which episodes are out, and why.

    Args:
        dataset: reference to the dataset artefact.
        dataset_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        verdict: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"dataset": (dataset.path, dataset_digest)}
    run_component("validate", inputs, parameters, code_version, verdict, digest)
