"""Data Docs that need no network: Great Expectations renders its results, our page around them links nothing.

The library's own site loads Bootstrap, jQuery and fonts from content networks, and carries the time and random ids of
each run. Here its content blocks are taken as it renders them, without the collapsed parts (which hold those times and
ids), and placed in a page with a style sheet of its own. Equal results give equal bytes.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate.suites import Judgement

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_docs(folder: Path, verdict: Mapping[str, Any], judgement: Judgement | None) -> None:
    """Writes `index.html` and a page for each suite into `folder`.

    Args:
        judgement: None when a fault of the dataset as a whole kept its episodes from being checked.
    """
    environment = _environment()
    folder.mkdir(parents=True)
    results = {} if judgement is None else judgement.results
    suites = [
        {
            "name": concern,
            "success": result.success,
            "rules": len(result.results),
            "broken": sum(not each.success for each in result.results),
        }
        for concern, result in results.items()
    ]
    counts = Counter((finding["rule"], finding["severity"]) for finding in verdict["findings"])
    index = environment.get_template("index.html").render(
        verdict=verdict,
        suites=suites,
        counts=[(rule, severity, number) for (rule, severity), number in counts.most_common()],
    )
    (folder / "index.html").write_text(index, encoding="utf-8")
    for concern, result in results.items():
        page = environment.get_template("suite.html").render(
            concern=concern,
            success=result.success,
            rules=_rules(result),
            sections=_sections(result),
        )
        (folder / f"{concern}.html").write_text(page, encoding="utf-8")


def _environment() -> "Environment":
    from great_expectations.render.view import DefaultJinjaPageView

    view = DefaultJinjaPageView(custom_views_directory=str(TEMPLATES))
    view.env.trim_blocks = True
    return view.env


def _rules(result: Any) -> dict[str, str]:
    """Summary column -> the rule it is judged by."""
    configs = [each.expectation_config for each in result.results]
    return {config.kwargs["column"]: config.meta["rule"] for config in configs}


def _sections(result: Any) -> list[Any]:
    """The library's sections of a validation, one a column, without its run-dependent parts."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    document = ValidationResultsPageRenderer().render(result).to_json_dict()
    # The overview begins with a link into the library's own site; our page has a heading of its own.
    document["sections"][0]["content_blocks"].pop(0)
    return [_without_collapsed(section) for section in document["sections"]]


def _without_collapsed(block: Any) -> Any:
    if isinstance(block, dict):
        return {key: _without_collapsed(value) for key, value in block.items()}
    if isinstance(block, list):
        kept = (item for item in block if not (isinstance(item, dict) and item.get("content_block_type") == "collapse"))
        return [_without_collapsed(item) for item in kept]
    return block
