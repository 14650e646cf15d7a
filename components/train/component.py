"""KFP components of the steps `pretrain` and `finetune`: shells around `pretrain.py` and `finetune.py`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output, OutputPath

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], packages_to_install=[], install_kfp_package=False)
def pretrain(
    packed: Input[Dataset],
    tokens: Input[Dataset],
    packed_digest: str,
    tokens_digest: str,
    parameters: dict,
    code_version: str,
    checkpoint: Output[Model],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Trains the policy on all tasks.

    Args:
        packed: reference to the packed artefact.
        tokens: reference to the tokens artefact.
        packed_digest: its digest.
        tokens_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        checkpoint: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {"packed": (packed.path, packed_digest), "tokens": (tokens.path, tokens_digest)}
    run_component("pretrain", inputs, parameters, code_version, checkpoint, digest)


@dsl.component(base_image=IMAGES["train"], packages_to_install=[], install_kfp_package=False)
def finetune(
    packed: Input[Dataset],
    tokens: Input[Dataset],
    checkpoint: Input[Model],
    packed_digest: str,
    tokens_digest: str,
    checkpoint_digest: str,
    parameters: dict,
    code_version: str,
    policy: Output[Model],
    digest: OutputPath(str),  # type: ignore[valid-type]
) -> None:
    """Trains the policy on one task and exports its bundle.

    Args:
        packed: reference to the packed artefact.
        tokens: reference to the tokens artefact.
        checkpoint: reference to the checkpoint artefact.
        packed_digest: its digest.
        tokens_digest: its digest.
        checkpoint_digest: its digest.
        parameters: of the step, as in params.yaml.
        code_version: of the code that the pipeline was compiled from.
        policy: reference to what the step makes.
        digest: of what the step makes.
    """
    from components.shell import run_component

    inputs = {
        "packed": (packed.path, packed_digest),
        "tokens": (tokens.path, tokens_digest),
        "checkpoint": (checkpoint.path, checkpoint_digest),
    }
    run_component("finetune", inputs, parameters, code_version, policy, digest)
