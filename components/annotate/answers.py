"""What a model has to answer: the JSON schemas of a segment and of an episode, and reading an answer by them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from components.annotate.vocabulary import Vocabulary

Kind = Literal["segment", "episode"]
SHOWN = 80  # characters at each end of a long reason
TRIES = 32  # a text of a hundred thousand braces would take seconds
MAX_SENTENCE = 200  # characters; training's prompts hold 24 to 72 tokens (SPEC_VLA 1.2)


class BadAnswer(Exception):
    """An answer that is not what was asked for; the message says why, to the model and to the person who reads it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A valid answer: the sentence, its verb ("" for an episode) and its objects, lower case."""

    sentence: str
    verb: str
    objects: tuple[str, ...]


def answer_schema(kind: Kind, vocabulary: Vocabulary) -> dict[str, Any]:
    """JSON schema (2020-12) of an answer, which servers with guided decoding hold the model to."""
    thing: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 60}
    if vocabulary.objects:
        thing = {"enum": list(vocabulary.objects)}
    objects = {"type": "array", "items": thing, "maxItems": 8}
    sentence = {"type": "string", "minLength": 3, "maxLength": MAX_SENTENCE}
    if kind == "episode":
        properties: dict[str, Any] = {"task": sentence, "objects": objects}
    else:
        verb: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 40}
        properties = {
            "sub_task": sentence,
            "verb": {"enum": list(vocabulary.verbs)} if vocabulary.verbs else verb,
            "objects": objects,
        }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_answer(text: str, kind: Kind, vocabulary: Vocabulary) -> Answer:
    """The answer in a model's text; words around the JSON object are let pass.

    Raises:
        BadAnswer: no JSON object, one that was cut off, or one that is not of the schema or the vocabulary; half a
            character, which no file can hold.
    """
    faults = []
    if not _is_whole(text):
        raise BadAnswer("the answer has half of a surrogate pair, which is no character")
    for found in _objects(text):
        error = next(
            iter(sorted(_validator(kind).iter_errors(found), key=lambda one: list(map(str, one.absolute_path)))), None
        )
        if error is not None:
            place = ".".join(map(str, error.absolute_path))
            faults.append(f"{place + ': ' if place else ''}{_short(error.message)}")
            continue
        verb = " ".join(found.get("verb", "").lower().split())
        objects = tuple(dict.fromkeys(" ".join(name.lower().split()) for name in found["objects"]))
        sentence = " ".join(found["task" if kind == "episode" else "sub_task"].split())
        texts = (sentence, *objects, *([verb] if kind == "segment" else []))
        if not all(texts):
            faults.append("one of its texts is blank")
            continue
        if not _is_whole(*texts):
            faults.append("it has half of a surrogate pair, as \\ud83d alone, which is no character")
            continue
        words = vocabulary.faults(verb if kind == "segment" else None, objects)
        if words:
            faults.append("; ".join(words))
            continue
        return Answer(sentence=sentence, verb=verb, objects=objects)
    if faults:
        raise BadAnswer(f"the JSON is not of the schema: {faults[0]}")
    cut = "{" in text
    raise BadAnswer(
        f"{'the JSON object is cut off or broken' if cut else 'there is no JSON object'} in {text[:SHOWN]!r}"
    )


def _is_whole(*texts: str) -> bool:
    """Whether texts can be written down: JSON's escapes can name halves of characters."""
    return not any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)


@cache
def _validator(kind: Kind) -> Any:
    """Of the form alone: words are compared with the vocabulary's without their case."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(answer_schema(kind, Vocabulary()))


def _short(message: str) -> str:
    return message if len(message) <= 2 * SHOWN else f"{message[:SHOWN]} ... {message[-SHOWN:]}"


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, in order; gives up after `TRIES` braces that begin none."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    tries = TRIES
    while at >= 0 and tries:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # ValueError also of a number with thousands of digits
            tries -= 1
            at = text.find("{", at + 1)
            continue
        yield found
        at = text.find("{", end)
