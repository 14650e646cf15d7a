"""The main DAG: from robot demonstrations to a promoted policy.

    collect | ingest -> validate -> annotate -> pack --> pretrain -> finetune -> evaluate -> register -> promote
                                 -> extract_depth_tokens ---^-----------^

The same definition runs on a laptop (kfp.local) and is compiled for a cluster. Whether the data is collected or
ingested is decided when the DAG is built, not while it runs: kfp.local 2.17 cannot pass on an artefact out of a dsl.If
(dsl.OneOf of artifacts raises "Expected 1 artifact in ArtifactSelectorSpec"), and a cluster's run page then shows the
steps that the run has and no skipped ones.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from components.annotate.component import annotate
from components.code_version import Sources
from components.collect.component import collect
from components.evaluate.component import evaluate
from components.extract_depth_tokens.component import extract_depth_tokens
from components.ingest.component import ingest
from components.pack.component import pack
from components.promote.component import promote
from components.register.component import register
from components.steps import STEPS
from components.train.component import finetune, pretrain
from components.validate.component import validate
from pipelines.profile import Profile
from pipelines.shape import dag_steps

NAME = "demonstrations_to_policy"


def build(source: str, parameters: Mapping[str, Mapping[str, Any]], profile: Profile) -> Callable[..., Any]:
    """The KFP pipeline.

    Args:
        source: "collect" or "ingest".
        parameters: step -> its complete parameters; they become the defaults of the pipeline's inputs.
        profile: where it will run.
    """
    steps = dag_steps(source)
    sources = Sources()
    versions = {step.name: sources.version(step.module) for step in steps}
    first = {"collect": collect, "ingest": ingest}[source]

    def pipeline(*step_parameters: Any) -> None:
        given = dict(zip((step.name for step in steps), step_parameters, strict=True))

        def task(component: Any, **inputs: Any) -> Any:
            """One task: each input's artefact and digest from the task that makes it, its parameters and its code."""
            step = STEPS[component.python_func.__name__]
            artifacts = {name: maker.outputs[name] for name, maker in inputs.items()}
            digests = {f"{name}_digest": maker.outputs["digest"] for name, maker in inputs.items()}
            common = {"parameters": given[step.name], "code_version": versions[step.name]}
            return profile.configure(component(**artifacts, **digests, **common), step)

        dataset = task(first)
        verdict = task(validate, dataset=dataset)
        annotations = task(annotate, dataset=dataset, verdict=verdict)
        tokens = task(extract_depth_tokens, dataset=dataset, verdict=verdict)
        packed = task(pack, dataset=dataset, verdict=verdict, annotations=annotations)
        checkpoint = task(pretrain, packed=packed, tokens=tokens)
        policy = task(finetune, packed=packed, tokens=tokens, checkpoint=checkpoint)
        evaluation = task(evaluate, policy=policy, packed=packed)
        version = task(register, policy=policy, evaluation=evaluation)
        task(promote, version=version, evaluation=evaluation)

    # KFP takes a pipeline's inputs from its signature: here one mapping of parameters a step.
    pipeline.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                f"{step.name}_parameters",
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                annotation=dict,
                default=dict(parameters[step.name]),
            )
            for step in steps
        ]
    )
    return dsl.pipeline(name=NAME.replace("_", "-"), description=f"From {source} to a promoted policy.")(pipeline)
