"""KFP component of the step `subset`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], packages_to_install=[], install_kfp_package=False)
def subset(
    packed: Input[Dataset],
    packed_digest: str,
    parameters: dict,
    code_version: str,
    subset: Output[Dataset],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Chooses a part of the packed training episodes.

    Args:
        packed: reference to the packed artefact.
        packed_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        subset: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"packed": (packed.path, packed_digest)}
    run_component("subset", inputs, parameters, code_version, subset, digest)
