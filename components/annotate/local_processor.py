"""The processor of a local vision-language model: chat template, tokenizer and image processor, without video.

Qwen's and other processors also hold one for videos, which needs torchvision. Only pictures are shown here, so it is
left out: such a model then works where torchvision is not installed.
"""

from typing import Any


def load_processor(path: str) -> Any:
    """The processor of the model in a folder.

    Raises:
        OSError, ValueError, ImportError: of transformers, for what it cannot load.
    """
    import transformers
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = AutoConfig.from_pretrained(path, local_files_only=True).model_type
    name = PROCESSOR_MAPPING_NAMES.get(kind)
    if name is None:
        return AutoProcessor.from_pretrained(path, local_files_only=True)
    loaded = getattr(transformers, name)
    if "video_processor" in loaded.get_attributes():
        loaded = _without_video(loaded)
    return loaded.from_pretrained(path, local_files_only=True)


def _without_video(kind: type) -> Any:
    """The processor class with a constructor that takes no video processor: transformers then loads none."""

    def construct(
        self: Any, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **settings: Any
    ) -> None:
        settings |= {"image_processor": image_processor, "tokenizer": tokenizer, "chat_template": chat_template}
        kind.__init__(self, **settings)  # type: ignore[misc]

    # transformers reads the constructor's parameters, and finds classes by their name
    return type(kind.__name__, (kind,), {"__init__": construct, "__module__": kind.__module__})
