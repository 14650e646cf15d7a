"""From a run's record and the folders of its steps to one HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent


def write_report(run: Mapping[str, Any], output: Path) -> Path:
    """Writes the report of a run to the file `output` and returns its path.

    Args:
        run: the content of `runs/<id>/run.json`. Of each step, `name` is needed; without `folder` (not run, or failed)
            its part of the page says so.
        output: the HTML file. Pictures are inside it, and it loads nothing.
    """
    from pipelines.report import evidence, overview, stories
    from pipelines.report.champion import champion
    from pipelines.report.cost import cost_table
    from pipelines.report.steps import Steps
    from pipelines.report.suite import suite
    from pipelines.report.trust import trust

    steps = Steps(run["steps"])
    return render(
        "page.html",
        output,
        run=run,
        verdict=overview.verdict(steps),
        tiles=overview.tiles(steps),
        stages=overview.stages(run["steps"]),
        lineage=overview.lineage(run),
        cost=cost_table(run.get("cost")),
        parameters=overview.parameters(run["steps"]),
        evaluation=evidence.evaluation(steps, run.get("twin")),
        suite=suite(steps),
        trust=trust(steps),
        champion=champion(steps),
        training=stories.training(steps),
        data=stories.data(steps),
        example=stories.example_episode(steps),
    )


def render(template: str, output: Path, **values: Any) -> Path:
    """Writes a template of this folder, filled with the values, to the file `output` and returns its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from pipelines.report.text import FILTERS

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    text = environment.get_template(template).render(style=style, **values)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return output
