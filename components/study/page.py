"""The page of a study: findings, figure, tables of amounts, laws, differences and policies. It loads nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --page: #f7f7f5; --card: #fff; --ink: #16181d; --muted: #5f6672; --line: #e2e3e0; }
@media (prefers-color-scheme: dark) {
  :root { --page: #121417; --card: #1a1d21; --ink: #e8eaed; --muted: #9aa2ad; --line: #30353c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); }
body { font: 15px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 28px; line-height: 1.2; margin: 4px 0 18px; text-wrap: balance; }
h2 { font-size: 20px; margin: 44px 0 12px; }
p { max-width: 80ch; } .muted { color: var(--muted); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; }
.card { overflow-x: auto; }
.figure { background: #fff; } .figure svg { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 13px; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; white-space: nowrap; }
.code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
</style>
</head>
<body>
<main>
<div class="muted">Study of {{ study.robot }}, task “{{ study.task }}”, {{ study.runs | length }} trained policies</div>
<h1>{{ title }}</h1>
<ul>{% for sentence in study.conclusions %}<li>{{ sentence }}.</li>{% endfor %}</ul>
<div class="card figure">{{ figure }}</div>
<p class="muted">Large dots: the policies of one amount together. Their intervals at rates hold for these policies on
other scenes; those of the open-loop error, and of the law, hold for further trainings. Small dots: one policy each. Of
a rate, the law is fitted to what is missing to 100%.</p>

<h2>Amounts</h2>
<div class="card"><table>
<tr><th>asked for</th><th class="right">{{ study.unit }}</th><th class="right">episodes</th>
<th class="right">policies</th><th class="right">trials</th>
<th class="right">success rate</th><th class="right">progress score</th>
<th class="right">open-loop error</th></tr>
{% for point in study.points %}<tr><td>{{ point.amount | amount }}</td><td class="right">{{ point.x | figure }}</td>
<td class="right">{{ point.episodes | unique | join(" to ") }}</td><td class="right">{{ point.runs }}</td>
<td class="right">{{ point.trials }}</td>
<td class="right">{{ point | rate("sr") }}</td><td class="right">{{ point | rate("ps") }}</td>
<td class="right">{{ point | error }}</td></tr>
{% endfor %}
</table></div>

<h2>Power laws</h2>
<div class="card"><table>
<tr><th>error</th><th class="right">exponent</th><th class="right">left by twice the data</th>
<th class="right">R²</th><th></th></tr>
{% for name, law in laws %}<tr><td>{{ name }}</td>
{% if law.reason %}<td colspan="3"></td><td class="muted">none: {{ law.reason }}</td>{% else %}
<td class="right">{{ law | interval("exponent") }}</td><td class="right">{{ law | interval("doubling") }}</td>
<td class="right">{{ law.r_squared | figure }}</td>
<td class="muted">{{ law.scale | figure }} × amount<sup>−{{ law.exponent | figure }}</sup>, {{ law.runs }} policies</td>
{% endif %}</tr>
{% endfor %}
</table></div>

{% if differences %}
<h2>Differences on the same scenes, in points</h2>
<div class="card"><table>
<tr><th>fewer</th><th>against</th><th class="right">success rate</th><th class="right">progress score</th></tr>
{% for row in differences %}<tr><td>{{ row.amount | amount }}</td><td>{{ row.against | amount }}</td>
<td class="right">{{ row | points("sr") }}</td><td class="right">{{ row | points("ps") }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Policies</h2>
<div class="card"><table>
<tr><th>asked for</th><th class="right">seed</th><th class="right">hours</th><th class="right">episodes</th>
<th class="right">success rate</th><th class="right">progress score</th><th class="right">open-loop error</th>
<th>digest of its episodes</th><th>bundle</th></tr>
{% for run in study.runs %}<tr><td>{{ run.amount | amount }}</td><td class="right">{{ run.seed }}</td>
<td class="right">{{ run.hours | figure }}</td><td class="right">{{ run.episodes }}</td>
<td class="right">{{ run.sr | percent }}</td><td class="right">{{ run.ps | percent }}</td>
<td class="right">{{ run.open_loop | figure }}</td><td class="code">{{ run.digests.training_episodes[:16] }}</td>
<td class="code">{{ run.digests.bundle[:16] }}</td></tr>
{% endfor %}
</table></div>
<p class="muted">Parts of one seed are nested: a larger one holds the episodes of a smaller one, each with the tasks in
the same shares. All policies were judged on the same scenes and the same held-out episodes. The open-loop error is in
standard deviations of the packed actions{% if study.horizon %}, {{ study.horizon }} steps ahead{% endif %}.</p>
</main>
</body>
</html>
"""


def write_page(study: Mapping[str, Any], figure: str, output: Path) -> None:
    """Writes the page of a study to the file `output`.

    Args:
        study: the content of study.json.
        figure: its SVG.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from model.evaluation import study_words as words

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "amount": lambda amount: words.amount_text(study["axis"], amount),
        "figure": _figure,
        "percent": lambda value: "" if value is None else words.percent(value),
        "rate": lambda scores, metric: "" if scores[metric] is None else words.rate_text(scores, metric),
        "points": lambda scores, metric: "" if scores[metric] is None else words.points_text(scores, metric),
        "error": lambda point: _interval(point, "open_loop"),
        "interval": _interval,
    }
    text = environment.from_string(_PAGE).render(
        study=study,
        title="How much data does it take?",
        laws=[(words.TITLES[metric], law) for metric, law in study["laws"].items()],
        differences=[row for row in study["differences"] if row["sr"] is not None],
        figure=Markup(figure[figure.index("<svg") :]),
    )
    output.write_text(text, encoding="utf-8")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(values: Mapping[str, Any], name: str) -> str:
    """A figure with its interval where there is one."""
    if values[name] is None:
        return ""
    if values[f"{name}_low"] is None:
        return _figure(values[name])
    return f"{_figure(values[name])} [{_figure(values[f'{name}_low'])}, {_figure(values[f'{name}_high'])}]"
