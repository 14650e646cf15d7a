"""int8 and principal components on tokens of real and of simulated frames: a small form of the benchmark."""

from pathlib import Path

from model.depth.teacher import Preprocessing, seeded_teacher
from tests.benchmarks.token_codecs import crops, fidelity, leave_one_out, real_scenes, simulated_scenes, tokens_of

PREPROCESSING = Preprocessing()  # the demo's: 112 px, 64 tokens


def test_tokens_of_real_frames_keep_their_direction(shared: Path) -> None:
    """The basis is fitted on seven scenes and measured on the eighth, each in turn."""
    teacher = seeded_teacher("demo", 0)
    tokens = [tokens_of(teacher, crops(scene), PREPROCESSING) for scene in real_scenes(shared / "rgbd_examples")]
    found = fidelity(leave_one_out(tokens, [part[:64] for part in tokens]))
    assert found.tokens == 512
    assert 0.001 < found.int8["relative_l2"] <= 0.01
    assert 0.99 <= found.pca["cosine"] < 1


def test_tokens_of_simulated_frames_keep_their_direction() -> None:
    teacher = seeded_teacher("demo", 0)
    scenes = [tokens_of(teacher, frames, PREPROCESSING) for frames in simulated_scenes((1, 2, 3, 4), 3, 112)]
    found = fidelity(leave_one_out(scenes, scenes)[:1])
    assert found.tokens == 576
    assert 0.001 < found.int8["relative_l2"] <= 0.01
    assert 0.99 <= found.pca["cosine"] < 1
