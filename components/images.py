"""The container images that the steps run in on a cluster. A profile may name others."""

IMAGES = {
    "data": "lingbot-python-data:0.1.0",
    "train": "lingbot-python-train:0.1.0",
    "simulation": "lingbot-python-simulation:0.1.0",
}
