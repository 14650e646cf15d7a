"""KFP component of the step `annotate`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], packages_to_install=[], install_kfp_package=False)
def annotate(
    dataset: Input[Dataset],
    verdict: Input[Artifact],
    dataset_digest: str,
    verdict_digest: str,
    parameters: dict,
    code_version: str,
    annotations: Output[Dataset],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Segments the episodes into atomic actions with their texts.

    Args:
        dataset: reference to the dataset artefact.
        verdict: reference to the verdict artefact.
        dataset_digest: its digest.
        verdict_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        annotations: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"dataset": (dataset.path, dataset_digest), "verdict": (verdict.path, verdict_digest)}
    run_component("annotate", inputs, parameters, code_version, annotations, digest)
