"""Studies of the amount of data: the same policy trained on nested parts of one dataset, judged alike, and joined.

    collect | ingest -> validate -> annotate -> pack          -> for each amount and seed:  -> study
                                 -> extract_depth_tokens ---^    subset -> pretrain -> finetune -> evaluate

Data scaling is a study over hours or shares of the data, data efficiency one over demonstrations of each task: which,
and how much, is in the section `study` of the parameters. A policy sees its own part of the data and no more, in
pretraining and in fine-tuning; all are judged on the same scenes and the same held-out episodes, in the whole packed
set's units. Which policies there are is decided when the DAG is built; they are the items of one ParallelFor.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.annotate.component import annotate
from components.code_version import Sources
from components.collect.component import collect
from components.evaluate.component import evaluate
from components.extract_depth_tokens.component import extract_depth_tokens
from components.ingest.component import ingest
from components.pack.component import pack
from components.shell import TASK
from components.steps import STEPS
from components.study.component import study
from components.subset.component import subset
from components.train.component import finetune, pretrain
from components.validate.component import validate
from pipelines.policies import LOOP
from pipelines.profile import Profile
from pipelines.shape import STUDY, data_steps

POLICIES = "policies"


def build(
    source: str,
    parameters: Mapping[str, Mapping[str, Any]],
    profile: Profile,
) -> Callable[..., Any]:
    """The KFP pipeline.

    Args:
        source: "collect" or "ingest".
        parameters: task -> its complete parameters (`pipelines.shape.run_steps`). Those outside of the loop become the
            defaults of the pipeline's inputs, those inside of it the items of the input `policies`.
        profile: where it will run.
    """
    first = {"collect": collect, "ingest": ingest}[source]
    outside = [*(step.name for step in data_steps(source)), STUDY]
    sources = Sources()
    versions = {name: sources.version(STEPS[name].module) for name in (*outside, *LOOP)}

    def task(component: Any, step_parameters: Any, **inputs: Any) -> Any:
        """One task: each input's artefact and digest, its parameters and its code."""
        step = STEPS[component.python_func.__name__]
        artifacts = {name: artifact for name, (artifact, _) in inputs.items()}
        digests = {f"{name}_digest": digest for name, (_, digest) in inputs.items()}
        made_by = {"parameters": step_parameters, "code_version": versions[step.name]}
        return profile.configure(component(**artifacts, **digests, **made_by), step)

    # A pipeline of its own, whose inputs the digests are: kfp.local 2.17 puts the item of a ParallelFor in the place of
    # every parameter that comes from a task outside of the loop.
    @dsl.pipeline(name=POLICIES)
    def train_and_compare(
        packed: Input[Dataset],
        packed_digest: str,
        tokens: Input[Dataset],
        tokens_digest: str,
        policies: list,
        study_parameters: dict,
    ) -> None:
        whole, teacher = (packed, packed_digest), (tokens, tokens_digest)
        with dsl.ParallelFor(policies, parallelism=int(parameters[STUDY]["parallel"])) as policy:
            part = _made(task(subset, policy.subset, packed=whole))
            checkpoint = _made(task(pretrain, policy.pretrain, packed=part, tokens=teacher))
            trained = _made(task(finetune, policy.finetune, packed=part, tokens=teacher, checkpoint=checkpoint))
            evaluation, digest = _made(task(evaluate, policy.evaluate, policy=trained, packed=whole))
        task(study, study_parameters, evaluations=(dsl.Collected(evaluation), dsl.Collected(digest)))

    def pipeline(*given_inputs: Any) -> None:
        *sections, policies = given_inputs
        given = dict(zip(outside, sections, strict=True))
        dataset = _made(task(first, given[source]))
        verdict = _made(task(validate, given["validate"], dataset=dataset))
        annotations = _made(task(annotate, given["annotate"], dataset=dataset, verdict=verdict))
        teacher = _made(task(extract_depth_tokens, given["extract_depth_tokens"], dataset=dataset, verdict=verdict))
        whole = _made(task(pack, given["pack"], dataset=dataset, verdict=verdict, annotations=annotations))
        train_and_compare(
            packed=whole[0],
            packed_digest=whole[1],
            tokens=teacher[0],
            tokens_digest=teacher[1],
            policies=policies,
            study_parameters=given[STUDY],
        )

    # KFP takes a pipeline's inputs from its signature: a mapping of parameters a step, and the list of policies.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(
                inspect.Parameter(f"{name}_parameters", kind, annotation=dict, default=dict(parameters[name]))
                for name in outside
            ),
            inspect.Parameter(POLICIES, kind, annotation=list, default=loop_items(parameters)),
        ]
    )
    return dsl.pipeline(name=STUDY, description=f"A study of the amount of data, from {source}.")(pipeline)


def loop_items(parameters: Mapping[str, Mapping[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """The items of the loop: for each policy step -> its parameters, with what the run calls its task."""
    items: dict[str, dict[str, dict[str, Any]]] = {}
    for task, values in parameters.items():
        step, _, label = task.partition("@")
        if label:
            items.setdefault(label, {})[step] = {**values, TASK: task}
    return list(items.values())


def _made(task: Any) -> tuple[Any, Any]:
    """The artefact of a task and its digest."""
    (artifact,) = (name for name in task.outputs if name != "digest")
    return task.outputs[artifact], task.outputs["digest"]
