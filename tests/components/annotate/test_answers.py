"""Reading a model's answer: what is let pass, and what is refused with which reason."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotate.answers import Answer, BadAnswer, answer_schema, read_answer
from components.annotate.vocabulary import Vocabulary, read_vocabulary
from model.errors import UserError

ANY = Vocabulary()
WORDS = Vocabulary(verbs=("pick up", "place"), objects=("red cube",))
GOOD = {"sub_task": "Pick up the red  cube", "verb": "Pick up", "objects": ["Red cube"]}


def test_an_answer_is_read_without_case_and_spare_blanks() -> None:
    wanted = Answer(sentence="Pick up the red cube", verb="pick up", objects=("red cube",))
    assert read_answer(json.dumps(GOOD), "segment", WORDS) == wanted


@pytest.mark.parametrize("around", ["Sure! {}", "```json\n{}\n```", "{} Anything else?", "First {{}} then {}"])
def test_words_around_the_object_are_let_pass(around: str) -> None:
    text = around.replace("{}", json.dumps(GOOD), 1) if "{{}}" not in around else "First {} then " + json.dumps(GOOD)
    assert read_answer(text, "segment", ANY).verb == "pick up"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("I see a robot.", "no JSON object"),
        (json.dumps(GOOD)[:-3], "cut off or broken"),
        (json.dumps({"label": "x"}), "not of the schema"),
        (json.dumps(GOOD | {"objects": "cube"}), "objects: 'cube' is not of type 'array'"),
        (json.dumps(GOOD | {"sub_task": "x" * 300}), r"sub_task: 'x+ \.\.\. x+' is too long"),
        (json.dumps(GOOD | {"extra": 1}), "Additional properties"),
        (json.dumps(GOOD | {"verb": "pick"}), r"'pick' is no allowed verb \(did you mean 'pick up'\?\)"),
        (json.dumps(GOOD | {"objects": ["red cubes"]}), r"'red cubes' is no allowed object \(did you mean 'red cube'"),
        ("{" * 100_000, "cut off or broken"),
        ('{"sub_task": ' + "1" * 5000 + "}", "cut off or broken"),
        (json.dumps(GOOD | {"sub_task": "   "}), "one of its texts is blank"),
        (json.dumps(GOOD | {"verb": " "}), "one of its texts is blank"),
        (json.dumps(GOOD | {"objects": ["red cube", "\t"]}), "one of its texts is blank"),
        (json.dumps(GOOD | {"sub_task": "lift \ud83d"}), "half of a surrogate pair"),
        (json.dumps(GOOD | {"objects": ["\udc00"]}), "half of a surrogate pair"),
        (json.dumps(GOOD) + " \ud83d", "half of a surrogate pair"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadAnswer, match=reason):
        read_answer(text, "segment", WORDS)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another exception: a model can write anything."""
    with contextlib.suppress(BadAnswer):
        read_answer(text, "episode", ANY)


def test_the_schema_holds_a_guided_model_to_the_vocabulary() -> None:
    properties = answer_schema("segment", WORDS)["properties"]
    assert properties["verb"] == {"enum": ["pick up", "place"]}
    assert properties["objects"]["items"] == {"enum": ["red cube"]}
    assert answer_schema("segment", ANY)["properties"]["verb"]["type"] == "string"


def test_a_vocabulary_is_read(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text("verbs: [Pick up, place, pick up]\n")
    assert read_vocabulary(str(file)) == Vocabulary(verbs=("pick up", "place"))
    assert read_vocabulary("") == ANY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verbs: pick", "give a list of words"),
        ("words: [a]", "has words: a vocabulary has"),
        ("[a", "words.yaml is not valid YAML"),
        ("verbs: [pick up]\nverbs: [place]", "'verbs' is given in line 1 and again in line 2"),
    ],
)
def test_a_bad_vocabulary_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_vocabulary(str(file))
