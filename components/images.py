"""The container images that the steps and the endpoint run in on a cluster (containers/). A profile may name others."""

IMAGES = {
    "data": "lingbot-python-data:0.1.0",
    "train": "lingbot-python-train:0.1.0",
    "simulation": "lingbot-python-simulation:0.1.0",
    "serve": "lingbot-python-serve:0.1.0",
    "mlflow": "lingbot-python-mlflow:0.1.0",
}
