"""KFP component of the step `pack`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], packages_to_install=[], install_kfp_package=False)
def pack(
    dataset: Input[Dataset],
    verdict: Input[Artifact],
    annotations: Input[Dataset],
    dataset_digest: str,
    verdict_digest: str,
    annotations_digest: str,
    parameters: dict,
    code_version: str,
    packed: Output[Dataset],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Packs the usable episodes for training: small frames, steps, statistics.

    Args:
        dataset: reference to the dataset artefact.
        verdict: reference to the verdict artefact.
        annotations: reference to the annotations artefact.
        dataset_digest: its digest.
        verdict_digest: its digest.
        annotations_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        packed: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {
        "dataset": (dataset.path, dataset_digest),
        "verdict": (verdict.path, verdict_digest),
        "annotations": (annotations.path, annotations_digest),
    }
    run_component("pack", inputs, parameters, code_version, packed, digest)
