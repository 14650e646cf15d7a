"""Compiles the DAG to KFP's intermediate representation."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model.errors import UserError
from pipelines import ir
from pipelines.parameters import RunParameters
from pipelines.places import check_places
from pipelines.profile import Profile
from pipelines.sdk import import_kfp
from pipelines.shape import MAIN, STUDY, run_steps, source_of


def compile_pipeline(parameters: RunParameters, profile: Profile, folder: Path, pipeline: str = MAIN) -> Path:
    """Writes the pipeline's YAML into a folder; returns its path.

    The name of the file says where the data comes from, as that decides the steps: `demonstrations_to_policy.yaml`
    collects, `demonstrations_to_policy_ingest.yaml` ingests. Equal arguments and equal code give equal bytes.

    Raises:
        UserError: the folder cannot be written to, a parameter names a file of this machine for a pod, the parameters
            give no such study, or Kubeflow would not take it.
    """
    if profile.runner == "cluster":
        check_places(parameters, pipeline, profile)
    import_kfp()
    from pipelines import demonstrations_to_policy, study

    source = source_of(parameters)
    _, values = run_steps(pipeline, parameters)
    name = pipeline + ("" if source == "collect" else f"_{source}")
    path = folder / f"{name}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): give another folder with --output") from error
    build = {MAIN: demonstrations_to_policy.build, STUDY: study.build}[pipeline]
    # For each setting of a task kfp reads the whole stack, with the source of each frame (inspect.stack): on a thread
    # of its own that is short, whoever calls.
    with ThreadPoolExecutor(max_workers=1) as thread:
        built = thread.submit(build, source, values, profile).result()
    ir.write(built, path)
    ir.check(path)
    return path
