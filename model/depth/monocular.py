"""Metric depth from one colour image: MoGe-2, or a metric depth model of transformers, both from local files.

LingBot-VLA's own targets use MoGe-2 (moge-2-vitb-normal, 256 tokens) on the square view that the policy sees
(SPEC_DEPTH section 6). Nothing is downloaded.
"""

import hashlib
import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.depth.sources import Estimator
from model.errors import UserError

MOGE_TOKENS = 256
# Their config does not say that they are metric, their definition does: absolute metres by their own training.
ALWAYS_METRIC = ("zoedepth", "depth_pro")


def load_estimator(path: str) -> tuple[Estimator, str]:
    """Estimator of depth, and its version: which model, with the sha256 of its weights.

    Args:
        path: folder of a transformers depth model, or checkpoint file of MoGe-2 (`model.pt`).

    Raises:
        UserError: nothing there, the package is missing, or the model's depth is not in metres.
    """
    if path and (Path(path) / "config.json").is_file():
        return _transformers(Path(path))
    if path and Path(path).is_dir() and not (Path(path) / "model.pt").is_file():
        raise UserError(
            f"depth model {path} has neither config.json (a transformers model) nor model.pt (MoGe-2): "
            "give the folder that `save_pretrained` wrote"
        )
    if path and not Path(path).exists():
        raise UserError(f"depth model {path} does not exist: give the local folder of a metric depth model")
    return _moge(Path(path) if path else None)


def _transformers(path: Path) -> tuple[Estimator, str]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        _check_metric(path, config)
        model = AutoModelForDepthEstimation.from_pretrained(path, local_files_only=True, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(path, local_files_only=True)
    except (OSError, ImportError) as error:
        raise UserError(f"depth model {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no depth model of transformers: {str(error).splitlines()[0]}") from error
    model = model.eval().requires_grad_(False).to(_device())

    def estimate(images: np.ndarray) -> np.ndarray:
        size = [tuple(images.shape[1:3])] * len(images)
        inputs = processor(images=list(images), return_tensors="pt").to(model.device)
        with torch.inference_mode():
            outputs = model(**inputs)
        # only ZoeDepth's processor pads, and wants to know what it padded
        sizes = {"source_sizes": size} if config.model_type == "zoedepth" else {}
        found = processor.post_process_depth_estimation(outputs, target_sizes=size, **sizes)
        return _metres(torch.stack([item["predicted_depth"] for item in found]))

    settings = hashlib.sha256((path / "config.json").read_bytes())
    if (path / "preprocessor_config.json").is_file():
        settings.update((path / "preprocessor_config.json").read_bytes())
    return estimate, f"{type(model).__name__} {weights_digest(model, settings)}"


def _check_metric(path: Path, config: Any) -> None:
    """UserError when the model's depth is relative: without a scale its log is shifted by an unknown amount."""
    kind = config.to_dict().get("depth_estimation_type")
    if kind != "metric" and config.model_type not in ALWAYS_METRIC:
        said = f"depth_estimation_type '{kind}'" if kind else "no depth_estimation_type"
        raise UserError(
            f"depth model {path} ({config.model_type}) is not metric, its config.json has {said}: take a metric one "
            'such as Depth Anything V2 Metric or ZoeDepth, or add "depth_estimation_type": "metric" if its output is '
            "metres"
        )


def _moge(path: Path | None) -> tuple[Estimator, str]:
    if importlib.util.find_spec("moge") is None:
        where = (
            f"{path} is a checkpoint of MoGe-2, whose" if path else "the depth source 'monocular' needs MoGe-2, whose"
        )
        raise UserError(
            f"{where} package 'moge' is not installed: install it, or set extract_depth_tokens.depth_model to the "
            "folder of a metric depth model of transformers"
        )
    if path is None:
        raise UserError(
            "the depth source 'monocular' has no weights: set extract_depth_tokens.depth_model to the model.pt of "
            "MoGe-2, or to the folder of a metric depth model of transformers"
        )
    file = path / "model.pt" if path.is_dir() else path
    model = importlib.import_module("moge.model.v2").MoGeModel.from_pretrained(file).eval().to(_device())

    def estimate(images: np.ndarray) -> np.ndarray:
        image_B3SS = torch.from_numpy(images).permute(0, 3, 1, 2).to(_device()).float() / 255
        found = model.infer(
            image_B3SS, num_tokens=MOGE_TOKENS, apply_mask=False, use_fp16=image_B3SS.device.type == "cuda"
        )
        return _metres(found["depth"])

    return estimate, f"MoGe-2 {MOGE_TOKENS} tokens {weights_digest(model, hashlib.sha256())}"


def weights_digest(model: nn.Module, digest: Any) -> str:
    """Hex sha256 over what `digest` holds already and the names, shapes and fp32 bytes of the weights."""
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _metres(depth: Tensor) -> np.ndarray:
    """float32 [B, S, S]; what is not finite or not positive becomes 0, no return."""
    depth = torch.nan_to_num(depth.float(), nan=0.0, posinf=0.0, neginf=0.0)
    return depth.clamp(min=0).cpu().numpy()


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
