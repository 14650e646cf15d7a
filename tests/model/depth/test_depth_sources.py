"""Depth sources by name: what they give, what their version says, and what they refuse."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from model.depth.monocular import load_estimator
from model.depth.sources import load_depth_source, resolve_depth_source
from model.errors import UserError


def save_depth_model(path: Path, seed: int = 0, kind: str = "metric") -> Path:
    """A tiny seeded Depth Anything of transformers, whose depth runs to 5 m, with its image processor."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=8, depth_estimation_type=kind, max_depth=5,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DepthAnythingForDepthEstimation(config)
        for parameter in model.parameters():  # the library's own start is almost zero: every depth would be half
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    processor = DPTImageProcessorPil(size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def depth_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_depth_model(tmp_path_factory.mktemp("depth_model"))


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 70, 70, 3)).astype(np.uint8)


def test_a_depth_model_of_transformers_gives_metres_at_the_frames_size(depth_model: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    estimate, version = load_estimator(str(depth_model))
    depth = estimate(IMAGES)
    assert depth.shape == (2, 70, 70) and depth.dtype == np.float32
    assert depth.min() >= 0 and depth.max() < 6 and depth.std() > 0.01, "to 5 m, and what cubic resizing adds"
    model = AutoModelForDepthEstimation.from_pretrained(depth_model, local_files_only=True).eval()
    inputs = AutoImageProcessor.from_pretrained(depth_model)(images=list(IMAGES), return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs).predicted_depth
    resized = torch.nn.functional.interpolate(wanted[:, None], (70, 70), mode="bicubic", align_corners=False)[:, 0]
    np.testing.assert_allclose(depth, resized.clamp(min=0), atol=1e-5)
    assert version.startswith("DepthAnythingForDepthEstimation ") and len(version.split()[1]) == 64


def test_the_version_is_that_of_the_weights(depth_model: Path, tmp_path: Path) -> None:
    again, other = save_depth_model(tmp_path / "again"), save_depth_model(tmp_path / "other", seed=1)
    versions = [load_depth_source("monocular", model=str(path)).version for path in (depth_model, again, other)]
    assert versions[0] == versions[1] != versions[2]


def test_relative_depth_is_refused(tmp_path: Path) -> None:
    path = save_depth_model(tmp_path, kind="relative")
    with pytest.raises(UserError, match="is not metric, its config.json has depth_estimation_type 'relative'"):
        load_estimator(str(path))


def test_a_depth_model_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone does not exist: give the local folder"):
        load_estimator(str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"has neither config.json .* nor model.pt"):
        load_estimator(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "depth_estimation_type": "metric"}')
    with pytest.raises(UserError, match="is no depth model of transformers|cannot be loaded"):
        load_estimator(str(tmp_path))


def test_without_its_package_moge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs MoGe-2, whose package 'moge' is not installed: install it, or set"):
        load_estimator("")


def test_moge_is_called_as_lingbot_vla_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package cannot be installed here: a network with its two methods stands in for it."""
    calls: list[dict[str, object]] = []

    class MoGeModel(torch.nn.Linear):
        @classmethod
        def from_pretrained(cls, file: Path) -> "MoGeModel":
            assert file == tmp_path / "model.pt"
            torch.manual_seed(0)
            return cls(3, 1)

        def infer(self, image: torch.Tensor, **settings: object) -> dict[str, torch.Tensor]:
            calls.append(settings)
            assert image.shape == (2, 3, 70, 70) and image.min() >= 0 and image.max() <= 1
            depth = image.mean(1) + 0.5
            depth[0, 0, 0], depth[0, 0, 1] = float("inf"), float("nan")
            return {"depth": depth}

    packages = {name: ModuleType(name) for name in ("moge", "moge.model", "moge.model.v2")}
    packages["moge.model.v2"].MoGeModel = MoGeModel  # type: ignore[attr-defined]
    packages["moge"].__spec__ = object()  # type: ignore[assignment]
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "model.pt").write_bytes(b"")
    estimate, version = load_estimator(str(tmp_path / "model.pt"))
    depth = estimate(IMAGES)
    assert calls == [{"num_tokens": 256, "apply_mask": False, "use_fp16": False}] and version.startswith("MoGe-2 256")
    assert depth[0, 0, :2].tolist() == [0, 0], "neither Inf nor NaN is a depth"
    np.testing.assert_allclose(depth[1], IMAGES[1].mean(-1) / 255 + 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "simulator", "has_depth", "wanted"),
    [
        ("auto", None, True, "sensor"),
        ("auto", "aloha_mujoco", True, "simulation"),
        ("auto", None, False, None),
        ("sensor", "aloha_mujoco", True, "sensor"),
        ("simulation", "aloha_mujoco", True, "simulation"),
        ("monocular", None, False, "monocular"),
    ],
)
def test_the_source_that_is_used(name: str, simulator: str | None, has_depth: bool, wanted: str | None) -> None:
    assert resolve_depth_source(name, robot_id="r", simulator=simulator, has_depth=has_depth) == wanted


def test_a_source_that_the_dataset_has_not_is_named() -> None:
    with pytest.raises(UserError, match="unknown depth source 'sensr'.*Did you mean 'sensor'"):
        resolve_depth_source("sensr", robot_id="r", simulator=None, has_depth=True)
    with pytest.raises(UserError, match="is 'sensor', but the dataset has no depth for the cameras of robot 'r'"):
        resolve_depth_source("sensor", robot_id="r", simulator=None, has_depth=False)
    with pytest.raises(UserError, match="is 'simulation', but robot 'r' has no simulator"):
        resolve_depth_source("simulation", robot_id="r", simulator=None, has_depth=True)
