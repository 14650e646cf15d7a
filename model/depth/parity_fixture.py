"""A parity fixture of LingBot-Depth: a config with weights, inputs one folder up, and outputs of the released code.

    inputs.safetensors                 <input>.image, <input>.depth, <input>.intrinsics
    <fixture>/config.json              model_config
    <fixture>/weights.safetensors      official tensor names
    <fixture>/outputs.safetensors      <case>.<nomask|mask>.<name>

A case names its input and its settings: `rect_t24` is input `rect` at 24 tokens, `rect_lvl3` at resolution level 3,
`rect1_unbatched` item 1 of it without a batch axis.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.depth.checkpoint import DepthCheckpoint, read_checkpoint
from model.errors import UserError

INPUTS, CONFIG, WEIGHTS, OUTPUTS = "inputs.safetensors", "config.json", "weights.safetensors", "outputs.safetensors"
MODES = {"nomask": False, "mask": True}
SETTING = re.compile(r"_(?:t(?P<tokens>\d+)|lvl(?P<level>\d+)|(?P<unbatched>unbatched))$")
ITEM = re.compile(r"(?P<input>.+?)(?P<item>\d+)")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Inputs and settings of one call. `num_tokens` None means by resolution level."""

    image: Tensor
    depth: Tensor
    intrinsics: Tensor | None
    num_tokens: int | None
    resolution_level: int
    enable_depth_mask: bool


@dataclass(frozen=True, kw_only=True)
class Fixture:
    name: str
    checkpoint: DepthCheckpoint
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def case(self, name: str, mode: str) -> Case | None:
        """The call that made the outputs `<name>.<mode>.*`; None when the name says nothing known."""
        if mode not in MODES:
            return None
        source, settings = name, dict[str, str]()
        while match := SETTING.search(source):
            source = source[: match.start()]
            settings |= {key: text for key, text in match.groupdict().items() if text is not None}
        item = None
        if f"{source}.image" not in self.inputs:
            match = ITEM.fullmatch(source)
            if match is None:
                return None
            source, item = match["input"], int(match["item"])
        image, depth = self.inputs.get(f"{source}.image"), self.inputs.get(f"{source}.depth")
        intrinsics = self.inputs.get(f"{source}.intrinsics")
        if image is None or depth is None or (item is not None and item >= len(image)):
            return None
        if item is not None:
            rows = slice(item, item + 1)
            image, depth, intrinsics = image[rows], depth[rows], None if intrinsics is None else intrinsics[rows]
        if "unbatched" in settings:
            image, depth, intrinsics = image[0], depth[0], None if intrinsics is None else intrinsics[0]
        return Case(
            image=image,
            depth=depth,
            intrinsics=intrinsics,
            num_tokens=self._tokens(name, mode, settings),
            resolution_level=int(settings.get("level", 9)),
            enable_depth_mask=MODES[mode],
        )

    def _tokens(self, name: str, mode: str, settings: Mapping[str, str]) -> int | None:
        """A case that names neither tokens nor level (`rect1_unbatched`) has as many as its feature map has cells."""
        if "tokens" in settings:
            return int(settings["tokens"])
        features = self.outputs.get(f"{name}.{mode}.features")
        if "level" in settings or features is None:
            return None
        return features.shape[-2] * features.shape[-1]


def read_fixtures(folder: Path, num_heads: int | None = None) -> list[Fixture]:
    """The fixture in `folder`, or every one in the folders below when `folder` itself holds the inputs.

    Raises:
        UserError: a file is missing or unreadable, or the weights do not fit the config.
    """
    if (folder / INPUTS).is_file():
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
        if not folders:
            raise UserError(f"{folder} holds {INPUTS} but no fixture folder with {CONFIG}, {WEIGHTS} and {OUTPUTS}")
    else:
        folders = [folder]
    return [_read(path, num_heads) for path in folders]


def _read(folder: Path, num_heads: int | None) -> Fixture:
    for path in (folder / CONFIG, folder / WEIGHTS, folder / OUTPUTS, folder.resolve().parent / INPUTS):
        if not path.is_file():
            raise UserError(f"{path} does not exist: a fixture has {CONFIG}, {WEIGHTS}, {OUTPUTS}, and {INPUTS} one up")
    return Fixture(
        name=folder.resolve().name,
        checkpoint=read_checkpoint(folder / WEIGHTS, num_heads=num_heads),
        inputs=_tensors(folder.resolve().parent / INPUTS),
        outputs=_tensors(folder / OUTPUTS),
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
