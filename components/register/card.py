"""The model card of a version: what the policy is, what it was measured at, what it was made from, what the gate said.

Markdown, shown by the registry's own page and by `lingbot models show --card`. The bundle's card, which training wrote,
is its first part.
"""

from collections.abc import Mapping
from typing import Any

LIMIT = 5000
"""Characters that MLflow's database keeps of a description."""
_GATE = "\n## Gate\n"
_CUT = "\n\n(cut off here: the whole card is MODEL_CARD.md of the version's run)\n"


def model_card(
    *,
    model: str,
    digest: str,
    own: str,
    contract: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    tags: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> str:
    """The card of a version.

    Args:
        model: registered model.
        digest: of the bundle.
        own: the card in the bundle.
        contract: of the bundle's manifest.
        evaluation: that the version is registered with.
        tags: of the version.
        provenance: record of the run that made it.
    """
    title, _, body = own.strip().partition("\n")
    return "\n".join(
        [
            title if title.startswith("# ") else f"# {title}",
            "",
            f"`{model}`, bundle `{digest}`.",
            body.rstrip(),
            "",
            "## Interface",
            *_interface(contract),
            "",
            "## Measured",
            *_measured(evaluation),
            "",
            "## Made from",
            *_made_from(tags, provenance),
            "",
        ]
    )


def with_verdict(card: str, verdict: Mapping[str, Any] | None) -> str:
    """The card with what the gate last said, in the place of what it said before; short enough for MLflow."""
    text = card.partition(_GATE)[0].rstrip() + "\n"
    if verdict is None:
        gate = "- No gate has seen it.\n"
    else:
        said = "passed" if verdict["promote"] else "not promoted"
        gate = f"- For the alias `{verdict['alias']}`: {said}.\n" + "".join(f"- {why}\n" for why in verdict["reasons"])
    gate = _shortened(_GATE + gate, LIMIT // 2)
    return _shortened(text, LIMIT - len(gate)) + gate


def _shortened(text: str, limit: int) -> str:
    body, cut_before, _ = text.partition(_CUT)
    if not cut_before and len(text) <= limit:
        return text
    return body[: limit - len(_CUT)].rstrip() + _CUT


def _interface(contract: Mapping[str, Any]) -> list[str]:
    cameras = ", ".join(f"{camera['name']} ({camera['height']}x{camera['width']})" for camera in contract["cameras"])
    return [
        f"- Robot: `{contract['robot']}`; {len(contract['state'])} state values in, chunks of {contract['horizon']} x "
        f"{len(contract['action'])} actions out, at {contract['control_hz']:g} Hz.",
        f"- Cameras: {cameras}.",
        f"- Instructions in training: {'; '.join(contract['tasks'])}.",
        f"- Normalisation: `{contract['normalization_digest']}`.",
    ]


def _measured(evaluation: Mapping[str, Any]) -> list[str]:
    closed_loop = evaluation.get("closed_loop")
    if not closed_loop:
        why = evaluation.get("closed_loop_reason")
        return [f"- No closed-loop evidence{f' ({why})' if why else ''}: how well it does the task is not known."]
    names = {
        "policy": "the policy",
        "mean_replay": "replaying the mean trajectory",
        "untrained": "the same network untrained",
        "blank_images": "the policy with blanked images",
    }
    lines = []
    for key, name in names.items():
        figures = closed_loop.get(key)
        if figures:
            lines.append(
                f"- `{evaluation.get('task')}`, {name}: SR {figures['sr']:.0%} "
                f"[{figures['sr_low']:.0%}, {figures['sr_high']:.0%}] in {figures['trials']} trials."
            )
    return [*lines, "- In simulation; intervals are 95%. What was not tried is not known."]


def _made_from(tags: Mapping[str, str], provenance: Mapping[str, Any]) -> list[str]:
    dirty = " with changes (kept in the provenance)" if tags.get("dirty") else ""
    found = {
        "Dataset": " ".join(
            value for value in (tags.get("dataset_tag"), _code(tags.get("dataset_digest"))) if value is not None
        ),
        "Code": f"{_code(tags['git_commit'])}{dirty}" if tags.get("git_commit") else "",
        "Run": _code(tags.get("run_id")) or "",
        "Command": _code(" ".join(provenance["command"])) or "",
        "Evaluation": _code(tags.get("evaluation_digest")) or "",
        "Provenance": _code(tags.get("provenance_digest")) or "",
    }
    return [f"- {name}: {value}." for name, value in found.items() if value]


def _code(text: str | None) -> str | None:
    return f"`{text}`" if text else None
