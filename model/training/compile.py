"""torch.compile of a policy, block by block: one graph without a break for each kind of block, shared by all layers.

Whole-policy graphs take minutes to build and break on what depends on data (absent views); blocks are where the time
goes. The policy's parameter names do not change.
"""

import os
import shutil

from torch import nn

from model.errors import UserError
from model.vla.modalities.views import Views
from model.vla.policy import Policy


def blocks(policy: Policy) -> list[nn.Module]:
    """What is compiled, and sharded, one by one: the blocks of the tower, the backbone and the expert."""
    views = policy.modalities["views"]
    assert isinstance(views, Views)
    return [*views.tower.blocks, *policy.backbone.layers, *policy.expert.layers]


def compile_blocks(policy: Policy) -> None:
    """Compiles every block in place, with static shapes; the first call of each shape builds it.

    Raises:
        UserError: there is no C++ compiler, which a CPU needs.
    """
    device = policy.visibility.device
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(
            f"compiling for a CPU needs the C++ compiler '{compiler}', which is not on the PATH: install it "
            f"(Debian: apt-get install g++), or leave --compile out."
        )
    for block in blocks(policy):
        block.compile(fullgraph=True, dynamic=False)
