"""Reads a Qwen2.5-VL directory as the backbone, vision tower and embeddings of a policy, under released names.

Two generations of names: `visual.*` and `model.*` up to transformers 4.51, `model.visual.*` and
`model.language_model.*` from 4.52. The released LingBot-VLA names follow the older.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.config import PolicyConfig
from model.errors import UserError
from model.released.qwen_config import check_qwen_sizes
from model.released.settings import CONFIG, read_json
from model.released.tensors import LazyTensors
from model.vla.released import released_shapes

IGNORED = ("lm_head.weight",)  # the policy predicts no text
_VLM = "model.qwenvl_with_expert.qwenvl."
# (name of the generation, (its prefix, the released prefix)...)
_GENERATIONS = (
    ("transformers from 4.52", (("model.visual.", "visual."), ("model.language_model.", "model."))),
    ("transformers up to 4.51", (("visual.", "visual."), ("model.", "model."))),
)


@dataclass(frozen=True, kw_only=True)
class QwenWeights:
    """Tensors by released name (views of the files), the generation of names they had, and warnings."""

    tensors: Mapping[str, Tensor]
    naming: str
    warnings: tuple[str, ...]


def read_qwen(tensors: LazyTensors, directory: Path, config: PolicyConfig) -> QwenWeights:
    """The Qwen2.5-VL tensors that `config` needs.

    Args:
        tensors: of the directory.
        directory: whose `config.json` is compared with `config`, where there is one.
        config: of the policy to initialise.

    Raises:
        UserError: other sizes than the policy's, or every tensor that is missing, unexpected or misshaped.
    """
    if (config.vision.kind, config.text.kind) != ("qwen2_5_vl", "qwen2_5"):
        raise UserError(
            f"preset '{config.name}' has a '{config.vision.kind}' tower and a '{config.text.kind}' backbone: only "
            f"'qwen2_5_vl' with 'qwen2_5' starts from a Qwen2.5-VL directory."
        )
    warnings = []
    if (directory / CONFIG).is_file():
        check_qwen_sizes(read_json(directory / CONFIG), directory / CONFIG, config)
    else:
        warnings.append(f"{CONFIG} is missing: head counts and window sizes could not be compared with the preset")
    newer = any(name.startswith(("model.visual.", "model.language_model.")) for name in tensors)
    naming, prefixes = _GENERATIONS[0 if newer else 1]
    wanted = {name: shape for name, shape in released_shapes(config).items() if name.startswith(_VLM)}
    shapes = tensors.shapes()
    found = {released: name for name in shapes if (released := _released(name, prefixes)) in wanted}
    missing = [_original(name, prefixes) for name in wanted if name not in found]
    unexpected = [name for name in shapes if name not in (*IGNORED, *found.values())]
    misshaped = [name for name in found if shapes[found[name]] != wanted[name]]
    if missing or unexpected or misshaped:
        lines = [
            *(f"  missing      {name}" for name in missing),
            *(f"  unexpected   {name} {list(shapes[name])}" for name in unexpected),
            *(f"  wrong shape  {found[n]} {list(shapes[found[n]])}, must be {list(wanted[n])}" for n in misshaped),
        ]
        raise UserError(
            f"{directory} is not the Qwen2.5-VL that preset '{config.name}' takes, nothing was loaded: {len(missing)} "
            f"tensors missing, {len(unexpected)} unexpected, {len(misshaped)} of the wrong shape. Choose the preset "
            f"of this backbone, or fetch the directory again.\n" + "\n".join(lines)
        )
    return QwenWeights(
        tensors={released: tensors[name] for released, name in found.items()}, naming=naming, warnings=tuple(warnings)
    )


def _released(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for theirs, released in prefixes:
        if name.startswith(theirs):
            return _VLM + released + name.removeprefix(theirs)
    return ""


def _original(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    """The name that a released one has in the directory's generation."""
    short = name.removeprefix(_VLM)
    theirs, released = next(pair for pair in prefixes if short.startswith(pair[1]))
    return theirs + short.removeprefix(released)
