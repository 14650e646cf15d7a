"""Batches: pure functions of the step, the same in slices as whole, and what augmentation does to their views."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import seeded_policy
from model.config import preset
from model.data.sampler import EpochSampler
from model.errors import UserError
from model.training.batches import Augmentation, BatchBuilder, Batches
from model.vla.policy import Inputs, Targets
from tests.model.training.recordings import BATCH, CONFIG, ROBOTS, TOKENIZER, Recording, mixed, part

EVERYTHING = Augmentation(saturation=0.3, crop=0.2, view_dropout=0.5)


def tensors(batch: tuple[Inputs, Targets]) -> dict[str, torch.Tensor]:
    return {name: value for part in batch for name, value in vars(part).items() if isinstance(value, torch.Tensor)}


def joined(batches: Batches, step: int, count: int) -> dict[str, torch.Tensor]:
    """The whole batch out of its slices."""
    slices = [tensors(batches(step, index, count)) for index in range(count)]
    whole = {}
    for name in slices[0]:
        size = sum(len(one[name]) for one in slices)
        whole[name] = torch.empty(size, *slices[0][name].shape[1:], dtype=slices[0][name].dtype)
        for index, one in enumerate(slices):
            whole[name][index::count] = one[name]
    return whole


def builder(**changes: object) -> BatchBuilder:
    return part("aloha_sim", 0, **changes).builder


@settings(max_examples=8, deadline=None)
@given(step=st.integers(0, 2**31), count=st.integers(1, 6), mixing=st.booleans())
def test_slices_are_the_whole_batch_to_the_bit(step: int, count: int, mixing: bool) -> None:
    how = {"augmentation": EVERYTHING, "sub_tasks": ("close the gripper", "lift the cube"), "sub_task_share": 0.5}
    batches: Batches = mixed(6, **how) if mixing else builder(**how)
    whole = tensors(batches(step))
    for name, values in joined(batches, step, count).items():
        assert torch.equal(values, whole[name]), name


def test_a_slice_reads_its_own_frames_alone() -> None:
    batches = builder()
    assert isinstance(batches.frames, Recording)
    batches(3, 1, 4)
    assert batches.frames.read == batches.sampler.batch(3)[1::4].tolist()


def test_a_batch_too_small_for_its_slices_is_refused() -> None:
    with pytest.raises(UserError, match="a batch of 12 has no sample for slice 12 of 16: raise batch_size"):
        builder()(0, 12, 16)


def test_augmentation_that_is_off_leaves_every_other_draw_as_it_was() -> None:
    """The figures are those of batches before slices and view dropout existed."""
    inputs, _ = builder()(7)
    assert (inputs.state != 0).any(1).tolist() == [bool(int(c)) for c in "000110000000"]
    assert inputs.images[:, 0, 0, 0, 0].tolist() == [44, 26, 55, 30, 39, 14, 33, 53, 48, 43, 35, 10]
    lost = tensors(builder(augmentation=Augmentation(view_dropout=0.7))(7))
    kept = tensors(builder()(7))
    assert [name for name in kept if not torch.equal(kept[name], lost[name])] == ["image_mask"]


def test_a_share_of_the_annotated_samples_is_told_its_sub_task() -> None:
    sub_tasks = ("pick the pear", "place the cube")
    batches = builder(sub_tasks=sub_tasks, sub_task_share=0.7)
    texts = {tuple(TOKENIZER.encode([text], CONFIG.text.max_length)[0][0].tolist()): text for text in sub_tasks}
    told = annotated = 0
    for step in range(60):
        plain, mixed_in = tensors(builder()(step)), tensors(batches(step))
        assert {name for name in plain if not torch.equal(plain[name], mixed_in[name])} <= {"tokens", "token_mask"}
        frames = batches.sampler.batch(step)
        for frame, before, after in zip(frames, plain["tokens"], mixed_in["tokens"], strict=True):
            annotated += frame % 3 != 0
            if not torch.equal(before, after):
                assert frame % 3 != 0 and texts[tuple(after.tolist())] == sub_tasks[frame % 2]
                told += 1
    assert annotated > 300 and told / annotated == pytest.approx(0.7, abs=0.08)
    every = builder(sub_tasks=sub_tasks, sub_task_share=1.0)(0)[0].tokens
    assert sum(tuple(ids.tolist()) in texts for ids in every) == int((builder().sampler.batch(0) % 3 != 0).sum())


def test_the_texts_of_whole_episodes_are_told_to_samples_that_keep_the_task() -> None:
    texts = {"sub_tasks": ("pick the pear", "place the cube"), "task_texts": ("place the bottle",)}
    plain = builder(**texts, sub_task_share=0.5)
    both = builder(**texts, sub_task_share=0.5, task_text_share=0.5)
    whole = TOKENIZER.encode(["place the bottle"], CONFIG.text.max_length)[0][0].tolist()
    own = builder(**texts)
    kept, told = 0, 0
    for step in range(20):
        rows = plain.sampler.batch(step)
        for row, task, one, other in zip(rows, *(b(step)[0].tokens.tolist() for b in (own, plain, both)), strict=True):
            if one != task or row < 10:
                assert other == one, "sub-tasks come first, and episodes without a text keep their task"
            else:
                kept += 1
                told += other == whole
                assert other in (task, whole)
    assert 0.35 * kept < told < 0.65 * kept and kept > 40
    every = builder(**texts, task_text_share=1.0)
    assert all(
        (ids == whole) == (row >= 10)
        for row, ids in zip(every.sampler.batch(0), every(0)[0].tokens.tolist(), strict=True)
    )


def test_views_are_lost_at_random_but_never_all() -> None:
    batches = builder(augmentation=Augmentation(view_dropout=0.4))
    masks = torch.cat([batches(step)[0].image_mask for step in range(40)]).numpy()
    assert masks.any(1).all()
    # 480 samples of 3 views; each stays with 0.6, and 0.4 ** 3 of them get one of the three back
    np.testing.assert_allclose(masks.mean(0), 0.6 + 0.4**3 / 3, atol=0.06)
    one = builder(augmentation=Augmentation(view_dropout=1.0))(0)[0].image_mask
    assert (one.sum(1) == 1).all()


def test_a_view_that_was_absent_stays_absent() -> None:
    present = np.array([[True, False, False], [False, False, False]])
    chosen = Augmentation(view_dropout=0.9)
    drawn = chosen.draw(2, 4, 3, 8, np.random.Generator(np.random.Philox(0)))
    np.testing.assert_array_equal(chosen.views(present, drawn), present)


class Teacher:
    """Tokens of every view, of one value."""

    def __init__(self, value: float):
        self.value = value

    def of(self, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(batch["frame"]), 3, 16, 192), self.value), np.ones((len(batch["frame"]), 3), bool)


def test_the_loss_of_depth_is_of_the_views_that_are_left() -> None:
    config = replace(CONFIG, depth=preset("debug").depth)
    chosen = Augmentation(view_dropout=0.6)
    batches = builder(config=config, tokens=Teacher(0.5), augmentation=chosen)
    inputs, targets = batches(0)
    assert targets.depth_tokens is not None and not inputs.image_mask.all()
    lost = torch.where(inputs.image_mask[:, :, None, None], targets.depth_tokens, 1e6)
    seen = torch.where(inputs.image_mask[:, :, None, None], 1e6, targets.depth_tokens)
    policy = seeded_policy(config, 0)
    noise, s = torch.zeros(BATCH, 1, config.horizon, config.dimensions), torch.zeros(BATCH, 1)
    with torch.no_grad():
        before, without, changed = (
            float(policy.losses(inputs, replace(targets, depth_tokens=tokens), noise, s)["depth"])
            for tokens in (targets.depth_tokens, lost, seen)
        )
    assert before == without < changed


def test_every_slice_of_a_mixture_has_the_same_losses() -> None:
    """One robot has teacher tokens: slices and steps without it still have a (masked) depth target."""
    config = replace(CONFIG, depth=preset("debug").depth)
    whole = mixed(3, config=config)
    first = replace(whole.parts[0], builder=replace(whole.parts[0].builder, tokens=Teacher(0.5)))
    whole = replace(whole, parts=(first, *whole.parts[1:]))
    masks = [targets.depth_mask for index in range(3) for _, targets in [whole(0, index, 3)]]
    assert [mask.any().item() for mask in masks if mask is not None] == [True, False, False]


def test_samples_are_named() -> None:
    rows = builder().sampler.batch(4)
    assert builder().names(4) == [f"aloha_sim, episode 0, frame {row}" for row in rows]
    datasets = [name.split(",")[0] for name in mixed().names(4)]
    assert datasets == ["aloha_sim"] * 6 + ["unitree_g1_inspire"] * 3 + ["gr1"] * 3


def test_parts_of_a_mixture_run_whole_epochs_at_their_own_pace() -> None:
    sampler = EpochSampler(rows=np.arange(20), batch_size=7, seed=4)
    together = mixed(7, weights=(0.7, 1.3, 2.0), sampler=sampler)
    taken = {name: [] for name in ROBOTS}
    for step in range(60):
        for name in together.names(step):
            taken[name.split(",")[0]].append(int(name.rsplit(" ", 1)[1]))
    for frames in taken.values():
        assert len(frames) >= 60
        for first in range(0, len(frames) - 19, 20):
            assert sorted(frames[first : first + 20]) == list(range(20))
