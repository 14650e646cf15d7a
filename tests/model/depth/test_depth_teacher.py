"""The seeded stand-in: the same in every process, and its tokens say what is where."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model.depth.frames import check_depth
from model.depth.teacher import Preprocessing, load_teacher, seeded_teacher
from model.errors import UserError

ROOT = Path(__file__).parents[3]
DIGEST = "from model.depth.teacher import seeded_teacher as t; print(t('demo', 3).weights_digest())"


def scene(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [B, 112, 112, 3], depth metres [B, 112, 112], and where (row, column) a raised square stands."""
    place = rng.integers(8, 92, (count, 2))
    images = np.full((count, 112, 112, 3), 120, np.uint8)
    depth = np.full((count, 112, 112), 1.2, np.float32)
    for item, (row, column) in enumerate(place):
        images[item, row : row + 12, column : column + 12] = (200, 30, 30)
        depth[item, row : row + 12, column : column + 12] = 1.16
    return images, depth, place


def explained(features: np.ndarray, target: np.ndarray, train: int) -> float:
    """R2 of a ridge regression from features [B, F] to target [B, T], on the rows after `train`."""
    features = (features - features[:train].mean(0)).astype(np.float64)
    kernel = features @ features[:train].T
    kernel /= np.trace(kernel[:train]) / train
    mean = target[:train].mean(0)
    weights = np.linalg.solve(kernel[:train] + 1e-4 * np.eye(train), target[:train] - mean)
    error = kernel[train:] @ weights + mean - target[train:]
    return float(1 - (error**2).mean() / ((target[train:] - target[train:].mean(0)) ** 2).mean())


def test_the_same_weights_in_every_process() -> None:
    digest = seeded_teacher("demo", 3).weights_digest()
    other = subprocess.run([sys.executable, "-c", DIGEST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest
    assert seeded_teacher("demo", 4).weights_digest() != digest


def test_drawing_a_teacher_disturbs_no_other_random_numbers() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    seeded_teacher("demo", 1)
    assert torch.equal(torch.rand(3), wanted)


def test_tokens_tell_where_things_are_from_colour_and_from_depth_alone() -> None:
    images, depth, place = scene(np.random.default_rng(0), 150)
    teacher, preprocessing = seeded_teacher("demo", 0), Preprocessing()
    grey, flat = np.full_like(images, 120), np.full_like(depth, 1.2)
    score = {}
    for name, colour, metres in (("both", images, depth), ("colour", images, flat), ("depth", grey, depth)):
        tokens = teacher.tokens(colour, metres, preprocessing)
        assert tokens.shape == (150, 64, 192) and tokens.dtype == np.float32
        score[name] = explained(tokens.reshape(150, -1), place.astype(float), 120)
    assert score["both"] > 0.8 and score["colour"] > 0.8 and score["depth"] > 0.5, score


def test_a_square_changes_the_tokens_near_it_most() -> None:
    images, depth, _ = scene(np.random.default_rng(0), 1)
    teacher, preprocessing = seeded_teacher("demo", 0), Preprocessing()
    empty_images, empty_depth = np.full_like(images, 120), np.full_like(depth, 1.2)
    images, depth = empty_images.copy(), empty_depth.copy()
    images[:, 30:40, 72:82], depth[:, 30:40, 72:82] = (200, 30, 30), 1.16
    change = teacher.tokens(images, depth, preprocessing) - teacher.tokens(empty_images, empty_depth, preprocessing)
    size = np.linalg.norm(change[0], axis=-1).reshape(8, 8)
    assert np.unravel_index(size.argmax(), size.shape) == (2, 5)
    assert size[2, 5] > 3 * np.median(size)


def test_a_checkpoint_replaces_the_stand_in(tmp_path: Path) -> None:
    seeded = seeded_teacher("demo", 0)
    config = (
        '{"encoder": {"backbone": "demo", "dim_out": 192, "intermediate_layers": 1, "img_depth_fuse_mode": "cat_token",'
        ' "depth_emb_mode": "conv_1c"}, "remap_depth_in": "log"}'
    )
    tensors = {f"encoder.{name}": tensor for name, tensor in seeded.encoder.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"model_config": config})
    read = load_teacher("dinov2_vits14", str(tmp_path))
    assert seeded.seeded and not read.seeded and "stand-in" in seeded.source and "stand-in" not in read.source
    assert read.weights_digest() == seeded.weights_digest(), "the digest is of the weights, not of the file"
    with pytest.raises(UserError, match="does not exist"):
        load_teacher("demo", str(tmp_path / "gone.pt"))
    with pytest.raises(UserError, match="unknown depth teacher 'dmeo'.*Did you mean 'demo'"):
        load_teacher("dmeo")


def test_preprocessing_squashes_and_truncates() -> None:
    preprocessing = Preprocessing(image_size=28, num_tokens=4, aspect="squash")
    image = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3)).astype(np.uint8)
    depth = np.arange(2 * 60 * 80, dtype=np.float32).reshape(2, 60, 80)
    image_B3SS, depth_B1SS = preprocessing(image, depth)
    assert image_B3SS.shape == (2, 3, 28, 28) and depth_B1SS.shape == (2, 1, 28, 28)
    assert torch.equal(image_B3SS * 255, (image_B3SS * 255).round()), "whole grey levels, as the recorded frames"
    assert set(depth_B1SS.flatten().tolist()) <= set(depth.flatten().tolist()), "depth is picked, never mixed"
    same, _ = Preprocessing(image_size=60, num_tokens=4)(image[:, :, :60], depth[:, :, :60])
    assert np.array_equal((same * 255).round().numpy().astype(np.uint8).transpose(0, 2, 3, 1), image[:, :, :60])


def test_every_setting_is_in_the_digest() -> None:
    settings = [
        Preprocessing(), Preprocessing(image_size=98), Preprocessing(num_tokens=49),
        Preprocessing(enable_depth_mask=True), Preprocessing(precision="bf16"), Preprocessing(aspect="squash"),
        Preprocessing(depth_source="simulation"), Preprocessing(depth_version="another model"),
    ]  # fmt: skip
    assert len({setting.digest for setting in settings}) == len(settings)
    assert Preprocessing().digest == Preprocessing(image_size=112).digest


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="num_tokens is 60: .* for example 49 or 64"):
        Preprocessing(num_tokens=60)
    with pytest.raises(UserError, match="image_size is 7: it must be at least one patch"):
        Preprocessing(image_size=7)
    with pytest.raises(UserError, match="unknown precision 'fp16'"):
        Preprocessing(precision="fp16")
    with pytest.raises(UserError, match="unknown aspect 'sqaush'.*Did you mean 'squash'"):
        Preprocessing(aspect="sqaush")


def test_frames_that_are_not_square_are_refused_with_what_to_do() -> None:
    image, depth = np.zeros((1, 48, 64, 3), np.uint8), np.ones((1, 48, 64), np.float32)
    wanted = "64x48 pixels are not square: .* give 14 x 18 = 252 tokens where the policy needs 256; crop .* to 48x48"
    with pytest.raises(UserError, match=wanted):
        Preprocessing(image_size=224, num_tokens=256)(image, depth)
    assert Preprocessing(image_size=28, num_tokens=4, aspect="squash").square(image).shape == (1, 28, 28, 3)


def test_millimetres_are_detected_by_range() -> None:
    metres = np.full((2, 8, 8), 1.2, np.float32)
    metres[1] = 0
    metres[0, 0, 0] = np.nan
    assert check_depth(metres, "here").tolist() == [True, False]
    with pytest.raises(UserError, match="depth of episode 3 has a median of 1200 m: it looks like millimetres"):
        check_depth(metres * 1000, "episode 3")


def test_a_digest_of_weights_is_a_sha256_of_fp32() -> None:
    teacher = seeded_teacher("demo", 0)
    assert len(teacher.weights_digest()) == len(hashlib.sha256().hexdigest())
    before = teacher.weights_digest()
    teacher.encoder.backbone.cls_token.data[0, 0, 0] += 1
    assert teacher.weights_digest() != before
