"""The summary of a run, line by line."""

from typing import Any

import pytest

from pipelines.summary import summary_lines

ASKED = {
    "segments": 1600, "requests": 1_967, "answers_from_cache": 0, "failed_requests": {}, "episodes_failed": 0,
    "input_tokens": 1_800_000, "output_tokens": 90_000, "cost": 0.0,
}  # fmt: skip


def lines(annotated: dict[str, Any]) -> list[str]:
    run = {
        "steps": [{"name": "annotate", "status": "done", "seconds": 3.0, "summary": annotated}],
        "provenance": {"code": {"dirty": None}}, "twin": None, "served": None, "report": None, "seconds": 3.0,
    }  # fmt: skip
    return summary_lines(run)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "1,967 requests, 0 answers from earlier ones; 1,800,000 tokens read and 90,000 written"),
        (
            {"answers_from_cache": 12, "failed_requests": {"invalid answer": 160, "the endpoint answers 429": 7}},
            "1,967 requests, 12 answers from earlier ones, 167 failed; 1,800,000 tokens read and 90,000 written",
        ),
        (
            {"episodes_failed": 2, "cost": 0.32},
            "1,967 requests, 0 answers from earlier ones; 2 episodes got no text; 1,800,000 tokens read and 90,000 "
            "written, which cost 0.32",
        ),
    ],
)
def test_what_a_models_texts_took_is_said(changed: dict[str, Any], said: str) -> None:
    assert f"texts        {said}" in lines(ASKED | changed)


def test_template_sentences_take_nothing() -> None:
    assert not any(line.startswith("texts") for line in lines({"segments": 1600}))
