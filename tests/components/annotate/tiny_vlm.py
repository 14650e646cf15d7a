"""A Qwen3-VL of 300,000 weights, seeded and taught to answer the questions of one small dataset.

It has the parts that a released one has: vision tower with deep stacking, merged patches, rotary positions in three
axes, a chat template and a byte-level tokenizer. What it answers it has learned by heart.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from components.annotate.local_model import messages
from components.annotate.local_processor import load_processor
from components.annotate.prompts import Question

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
IMAGE = {"start": "<|vision_start|>", "end": "<|vision_end|>", "image": "<|image_pad|>", "video": "<|video_pad|>"}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTH = 32
STEPS = 300
IGNORED = -100  # by the loss


def write_tiny_vlm(folder: Path, questions: Sequence[Question], answer: Callable[[Question], str]) -> Path:
    """A folder as `save_pretrained` writes it, of a model that answers these questions so.

    Its image processor is declared as released Qwen folders do, by the name of the one that needs torchvision.
    """
    texts = [part["text"] for q in questions for m in messages(q, "") for part in m["content"] if "text" in part]
    tokenizer = _tokenizer([*texts, *map(answer, questions)])
    tokenizer.save_pretrained(folder)
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32}
    Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, size=pixels).save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["image_processor_type"] = "Qwen2VLImageProcessorFast"
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(_config(tokenizer))
    model.save_pretrained(folder)  # the processor asks the folder which model it is
    processor = load_processor(str(folder))
    _teach(model, [_example(processor, question, answer(question)) for question in questions])
    model.save_pretrained(folder)
    return folder


def _tokenizer(texts: Sequence[str]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=[PAD, START, END, *IMAGE.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    wrapped.chat_template = TEMPLATE
    return wrapped


def _config(tokenizer: Any) -> Qwen3VLConfig:
    number = {name: tokenizer.convert_tokens_to_ids(token) for name, token in IMAGE.items()}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 4096,
        "rope_scaling": rope, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_heads": 2, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": WIDTH, "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=number["image"], video_token_id=number["video"],
        vision_start_token_id=number["start"], vision_end_token_id=number["end"], tie_word_embeddings=True,
    )  # fmt: skip


def _example(processor: Any, question: Question, answer: str) -> dict[str, torch.Tensor]:
    """The prompt and the answer as one sequence; the loss is of the answer alone."""
    inputs = dict(
        processor.apply_chat_template(
            messages(question, ""), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    )
    asked = inputs["input_ids"].shape[1]
    wanted = processor.tokenizer(answer + END, return_tensors="pt")["input_ids"]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], wanted], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, wanted.shape[1]))
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["labels"][:, :asked] = IGNORED
    return inputs


def _teach(model: Any, examples: Sequence[dict[str, torch.Tensor]]) -> None:
    """Until greedy decoding gives every answer: each of its tokens is the likeliest after those before it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = [model(**example) for example in examples]
        torch.stack([output.loss for output in outputs]).mean().backward()
        optimizer.step()
        pairs = zip(outputs, examples, strict=True)
        if all(_is_learned(output.logits, example["labels"]) for output, example in pairs):
            return
    raise AssertionError(f"the tiny model did not learn its answers in {STEPS} steps")


def _is_learned(logits: torch.Tensor, labels: torch.Tensor) -> bool:
    asked = labels[:, 1:] != IGNORED
    sure = logits[:, :-1].softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return bool((sure[asked] > 0.6).all())
