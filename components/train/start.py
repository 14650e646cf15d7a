"""Where pretraining starts: a preset with seeded weights, or a policy that was trained or imported before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.data.seen import Seen, read_seen
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from model.config import PolicyConfig
    from model.data.text import InstructionTokenizer
    from model.vla.policy import Policy

SWITCHED = ("modalities.depth.", "modalities.goal.")  # what the data or a weight of 0 can switch off


@dataclass(frozen=True, kw_only=True)
class Start:
    """A configuration before it is fitted to the data, the tokenizer of its embeddings, and weights, if any.

    `seen` is what the weights were trained on so far.
    """

    config: "PolicyConfig"
    tokenizer: "InstructionTokenizer"
    state: "Mapping[str, Tensor] | None" = None
    seen: Seen = Seen()

    def load(self, policy: "Policy", progress: Progress) -> None:
        """Puts the weights into a policy of the fitted configuration; does nothing without weights.

        Raises:
            UserError: a tensor has another shape, because the depth teacher's tokens have.
        """
        if self.state is None:
            return
        own = policy.state_dict()
        left = [name for name in self.state if name not in own]
        assert all(name.startswith(SWITCHED) for name in left) and own.keys() <= self.state.keys()
        misshaped = [
            f"{name} {list(self.state[name].shape)}, not {list(own[name].shape)}"
            for name in own
            if self.state[name].shape != own[name].shape
        ]
        if misshaped:
            raise UserError(
                f"the initial checkpoint was trained with other depth tokens than those of this dataset: "
                f"{'; '.join(misshaped)}. Extract tokens of its number and width (extract_depth_tokens), or set "
                f"pretrain.depth_weight=0."
            )
        policy.load_state_dict({name: self.state[name] for name in own}, strict=True)
        if left:
            parts = sorted({name.split(".")[1] for name in left})
            progress.message(f"not taken from the initial checkpoint, because it is switched off: {', '.join(parts)}")


def find_start(preset: str, initial_checkpoint: str, tasks: Sequence[str], dimensions: int = 0) -> Start:
    """The start that the parameters name; a checkpoint brings its own configuration and tokenizer.

    A checkpoint without a tokenizer gets one trained on the sentences `tasks`, as a preset does. `dimensions` of the
    policy's vector: 0 takes those of the preset or the checkpoint.

    Raises:
        UserError: no such preset, no policy in that folder, or one of other dimensions.
    """
    from model.config import preset as preset_of
    from model.data.text import InstructionTokenizer

    if not initial_checkpoint:
        config = preset_of(preset)
        config = replace(config, dimensions=dimensions or config.dimensions)
        return Start(config=config, tokenizer=InstructionTokenizer.train(tasks, config.text.vocab_size))
    from model.released.folder import read_policy_folder

    folder = read_policy_folder(Path(initial_checkpoint))
    if dimensions not in (0, folder.config.dimensions):
        raise UserError(
            f"dimensions is {dimensions}, but the policy in {initial_checkpoint} has {folder.config.dimensions}: leave "
            "pretrain.dimensions at 0."
        )
    if folder.tokenizer:
        tokenizer = InstructionTokenizer.load(folder.tokenizer)
    else:
        tokenizer = InstructionTokenizer.train(tasks, folder.config.text.vocab_size)
    seen = read_seen(folder.path)
    if seen is None:
        silent = f"the initial checkpoint (policy '{folder.config.name}') does not say what it was trained on"
        seen = Seen(unknown=(silent,))
    return Start(config=folder.config, tokenizer=tokenizer, state=folder.state, seen=seen.as_initial())
