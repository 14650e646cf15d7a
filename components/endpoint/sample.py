"""An observation made from a contract alone: for checks and for a first try, by who has no robot at hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def sample_observation(contract: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """A message in LingBot's dialect that fits the contract: noise for each camera, a state of zeros, a known task.

    Args:
        contract: as in the metadata frame.
        seed: of the images, and of the action noise that is asked for.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    images = {
        f"observation.images.{camera['name']}": rng.integers(
            0, 256, (camera["height"], camera["width"], 3), dtype=np.uint8
        )
        for camera in contract["cameras"]
    }
    return {
        **images,
        "observation.state": np.zeros(len(contract["state"]), dtype=np.float32),
        "task": contract["tasks"][0],
        "seed": seed,
    }
