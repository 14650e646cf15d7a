"""KFP component of the step `collect`: the shell around `step.py`."""

from kfp import dsl
from kfp.dsl import Dataset, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["simulation"], packages_to_install=[], install_kfp_package=False)
def collect(
    parameters: dict,
    code_version: str,
    dataset: Output[Dataset],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Drives the simulated robot with the scripted expert and writes a LeRobot dataset.

    Args:
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        dataset: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    run_component("collect", {}, parameters, code_version, dataset, digest)
