"""What may be set about annotating: where episodes are cut, who writes the texts, and what of them is kept."""

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from model.data.segmentation import SegmentationSettings
from model.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Parameters(SegmentationSettings):
    """Parameters of the step `annotate`; those of `SegmentationSettings` say where to cut.

    Attributes:
        writer: `template` writes from the task's text and the kinematics; `endpoint` asks an OpenAI-compatible chat
            endpoint; `local` a vision-language model of transformers.
        endpoint: base URL of the API, as http://vlm:8000/v1.
        model: the name it is served under.
        checkpoint: folder of the model of writer `local`.
        api_key_variable: name of the environment variable that holds the key; the key itself is never a parameter.
        vocabulary: YAML file of allowed verbs and objects; "" allows any.
        frames: times shown a question, every camera at each.
        frame_size: longer side of a shown frame, pixels.
        concurrency: requests at once.
        timeout_seconds: of one request.
        attempts: at most so many a question.
        failed_share: of the episodes may fail before the step does.
        price_input, price_output: money a million tokens, for the summary's estimate.
        reviewed: a file of `lingbot annotate review`: its accepted episodes are taken from it as they are.
    """

    writer: Literal["template", "endpoint", "local"] = "template"
    endpoint: str = ""
    model: str = ""
    checkpoint: str = ""
    api_key_variable: str = "LINGBOT_VLM_API_KEY"
    vocabulary: str = ""
    frames: int = 4
    frame_size: int = 448
    concurrency: int = 16
    timeout_seconds: float = 120.0
    attempts: int = 6
    failed_share: float = 0.05
    price_input: float = 0.0
    price_output: float = 0.0
    reviewed: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames", "frame_size", "concurrency", "timeout_seconds", "attempts"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"annotate.{name} is {getattr(self, name)}: it must be a number above 0.")
        for name in ("price_input", "price_output"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"annotate.{name} is {getattr(self, name)}: it must be a number, 0 or more.")
        if not 0 <= self.failed_share <= 1:
            raise UserError(f"annotate.failed_share is {self.failed_share}: it is a share, choose between 0 and 1.")
        if self.writer == "endpoint" and not (self.endpoint and self.model):
            raise UserError(
                f"annotate.writer is 'endpoint' with annotate.endpoint '{self.endpoint}' and annotate.model "
                f"'{self.model}': give both, as in http://vlm:8000/v1 and the name that it serves, or leave the writer "
                "'template'."
            )
        if self.endpoint and not _is_address(self.endpoint):
            raise UserError(
                f"annotate.endpoint is '{self.endpoint}', which is no http address: give the base URL of a chat API, "
                "as in http://vlm:8000/v1."
            )
        if self.writer == "local" and not self.checkpoint:
            raise UserError("annotate.writer is 'local' and annotate.checkpoint is empty: give the model's folder.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # as it is looked up
        return parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:  # of the port, of brackets that do not close, of a host's empty or endless part
        return False
