"""A vision-language model of `transformers` from a folder on this machine: no endpoint, no network."""

import asyncio
import io
from typing import Any

from components.annotate.chat_endpoint import ANSWER_TOKENS
from components.annotate.models import Reply
from components.annotate.prompts import SYSTEM, Question
from model.errors import UserError


class LocalModel:
    """Asks a model in this process, one question at a time, greedily.

    Args:
        path: folder of weights, configuration and processor, as `save_pretrained` writes them.
        name: what the annotations' `source` says.

    Raises:
        UserError: the folder holds no such model.
    """

    concurrency = 1  # two generations at once would share the same cores or GPU

    def __init__(self, path: str, name: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        from components.annotate.local_processor import load_processor

        self.name = name
        try:
            self._processor = load_processor(path)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"annotate.checkpoint is '{path}', from which transformers loads no vision-language model ({error}): "
                "give a folder with weights, config and processor."
            ) from error
        self._model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    async def ask(self, question: Question, complaint: str) -> Reply:
        return await asyncio.to_thread(self._generate, question, complaint)

    async def close(self) -> None:
        pass

    def _generate(self, question: Question, complaint: str) -> Reply:
        import torch

        inputs = self._processor.apply_chat_template(
            messages(question, complaint),
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device)
        asked = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0, asked:]
        text = self._processor.decode(tokens, skip_special_tokens=True)
        return Reply(text=text, input_tokens=asked, output_tokens=len(tokens))


def messages(question: Question, complaint: str) -> list[dict[str, Any]]:
    """The conversation as chat templates take it; without guided decoding the schema is told in words."""
    from PIL import Image

    parts: list[dict[str, Any]] = []
    for frame in question.frames:
        parts.append({"type": "text", "text": f"{frame.camera} at {frame.seconds:.2f} s"})
        parts.append({"type": "image", "image": Image.open(io.BytesIO(frame.jpeg))})
    wanted = f"{question.text}\nThe JSON object's schema: {question.schema}"
    parts.append({"type": "text", "text": wanted})
    if complaint:
        parts.append({"type": "text", "text": f"Your last answer did not do: {complaint}. Answer again."})
    return [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}, {"role": "user", "content": parts}]
