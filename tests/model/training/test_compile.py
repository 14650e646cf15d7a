"""Compiled blocks: the same numbers as eager ones, one graph for each kind, and a plain sentence without a compiler."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from model.benchmark.batches import random_inputs, random_targets
from model.bundle import seeded_policy
from model.config import preset
from model.errors import UserError
from model.training.compile import blocks, compile_blocks
from model.training.loop import draw
from model.training.precision import round_parameters
from model.vla.policy import Policy

DEBUG = preset("debug")
# Three layers, so that a graph for each layer would be noticed; four windows, so that not every block sees all.
CONFIG = replace(
    DEBUG, text=replace(DEBUG.text, num_layers=3), vision=replace(DEBUG.vision, num_layers=3, window_size=28)
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def losses(policy: Policy) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = random_inputs(CONFIG, 2, generator), random_targets(CONFIG, 2, generator)
    return policy.losses(inputs, targets, *draw(CONFIG, 2, 2, 0, 0))


def assert_equal(eager: Policy, compiled: Policy) -> None:
    """Losses, and gradients of every weight."""
    expected, actual = losses(eager), losses(compiled)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    for total in (expected["total"], actual["total"]):
        total.backward()
    for (name, a), (_, b) in zip(eager.named_parameters(), compiled.named_parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_captured_graphs_give_the_losses_and_gradients_of_eager_blocks() -> None:
    """Graphs, their derivatives and decompositions, run by PyTorch's own kernels: all but the generated C++."""
    eager, compiled = (seeded_policy(CONFIG, 0).train() for _ in range(2))
    for block in blocks(compiled):
        block.compile(fullgraph=True, dynamic=False, backend="aot_eager_decomp_partition")
    assert_equal(eager, compiled)


@pytest.mark.slow
def test_the_compiled_expert_gives_the_losses_and_gradients_of_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the kernels, 30 CPU seconds of g++; `make soak` builds them all."""
    monkeypatch.setattr("model.training.compile.blocks", lambda policy: list(policy.expert.layers))
    eager, compiled = (seeded_policy(CONFIG, 0).train() for _ in range(2))
    compile_blocks(compiled)
    assert_equal(eager, compiled)


@pytest.mark.soak
def test_a_compiled_policy_gives_the_losses_and_gradients_of_an_eager_one() -> None:
    eager, compiled = (seeded_policy(CONFIG, 0).train() for _ in range(2))
    compile_blocks(compiled)
    assert_equal(eager, compiled)


@pytest.mark.parametrize("bf16", [False, True])
def test_layers_share_one_graph_of_each_kind_without_a_break(bf16: bool) -> None:
    """Four kinds: a window block and a full block of the tower, a backbone block, an expert block. `fullgraph` raises
    at a break."""
    policy = seeded_policy(CONFIG, 0).train()
    if bf16:
        round_parameters(policy)
    counter = CompileCounter()
    for block in blocks(policy):
        block.compile(fullgraph=True, dynamic=False, backend=counter)
    losses(policy)
    assert counter.frame_count == 4


def test_every_layer_is_a_block() -> None:
    assert len(blocks(seeded_policy(CONFIG, 0))) == 3 + 3 + 3


def test_names_of_the_weights_do_not_change() -> None:
    policy = seeded_policy(CONFIG, 0)
    names = list(policy.state_dict())
    compile_blocks(policy)
    assert list(policy.state_dict()) == names


def test_without_a_compiler_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="needs the C\\+\\+ compiler 'no-such-compiler'.*apt-get install g\\+\\+"):
        compile_blocks(seeded_policy(CONFIG, 0))
