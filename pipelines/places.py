"""Parameters that name files: whether what they name is where a pod looks."""

from pathlib import Path

from components.steps import STEPS
from model.errors import UserError
from pipelines.parameters import RunParameters
from pipelines.profile import Profile
from pipelines.shape import run_steps


def check_places(parameters: RunParameters, pipeline: str, profile: Profile) -> None:
    """UserError when a parameter names a file that pods will not see."""
    shared = profile.storage.mount if profile.storage.mode == "claim" else None
    for step in run_steps(pipeline, parameters)[0]:
        table = STEPS[step.name]
        for name in (*table.sources, *table.listings):
            value = parameters.steps[step.name].get(name) or ""
            if "://" in value or not Path(value).is_absolute() or not Path(value).exists():
                continue
            if shared is None or not Path(value).is_relative_to(shared):
                raise UserError(
                    f"{step.name}.{name} is '{value}', a file of this machine, which pods do not see: put it at "
                    f"s3://bucket/prefix" + (f" or on the claim below {shared}" if shared else "")
                )
