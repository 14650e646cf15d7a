"""Manifests in k8s/ that components/launch makes: `PYTHONPATH=. python tests/k8s/generated.py` writes them anew."""

import sys
from pathlib import Path
from typing import Any

import yaml

from components.launch import pytorchjob, trainjob
from components.launch.job import JobSpec
from components.launch.settings import load_settings

K8S = Path(__file__).parents[2] / "k8s"
SETTINGS = K8S / "base/training/settings.yaml"
# Of two nodes with eight GPUs each, as a step launches it.
EXAMPLE = JobSpec(
    run="20261122-142301-9f3c",
    step="pretrain",
    command=("-m", "components.train.worker", "/mnt/lingbot/launch/spec.json"),
    nodes=2,
    processes=8,
    max_seconds=86400,
)
HEAD = "# Made by tests/k8s/generated.py from k8s/base/training/settings.yaml.\n"


def generated() -> dict[Path, dict[str, Any]]:
    settings = load_settings(SETTINGS)
    return {
        K8S / "base/training/runtime.yaml": trainjob.runtime(settings),
        K8S / "examples/trainjob.yaml": trainjob.build(EXAMPLE, settings),
        K8S / "examples/pytorchjob.yaml": pytorchjob.build(EXAMPLE, settings),
    }


def main() -> int:
    for path, manifest in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + yaml.safe_dump(manifest, sort_keys=True, width=120))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
