"""The cost of a run as a table, for the page and for a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.report.text import size


@dataclass(frozen=True, kw_only=True)
class Row:
    """Texts of one line. `made` is what the step cost when it was made, where it was reused."""

    name: str
    cpu_hours: str
    gpu_hours: str
    kept: str
    money: str
    made: str


@dataclass(frozen=True, kw_only=True)
class Table:
    rows: tuple[Row, ...]
    total: Row
    notes: tuple[str, ...]


_BASIS = {
    "measured": "CPU hours are the processor time of the steps' processes, GPU hours the time that they held them.",
    "reserved": "Hours are what the pods of the steps reserved, for as long as they ran.",
}


def cost_table(cost: Mapping[str, Any] | None) -> Table | None:
    """None for a record that was written before runs knew their cost."""
    if not cost:
        return None
    currency = cost["prices"]["currency"]
    rows = tuple(_row(step["name"], step, step["made"], step["bytes"], currency) for step in cost["steps"])
    total = _row("this run", cost["total"], cost["made"], cost["storage"]["bytes"], currency)
    notes = [_BASIS[cost["basis"]], _prices(cost)]
    if cost["without_price"]:
        notes.append(f"The price file has no price of {', '.join(cost['without_price'])}: money leaves it out.")
    return Table(rows=rows, total=total, notes=tuple(notes))


def cost_sentence(cost: Mapping[str, Any]) -> str:
    """One line for a terminal."""
    currency = cost["prices"]["currency"]
    total, stored = cost["total"], cost["storage"]
    text = f"{hours(total['cpu_hours'])} CPU hours, {_gpus(total['gpu_hours'])} GPU hours"
    price = money(total["money"], currency)
    if total["money"] is None:
        text += ", without a price of its GPUs"
    else:
        text += f", {price}" if price.startswith("under") else f", about {price}"
    if cost["made"] and cost["made"]["money"] is not None and any(step["status"] == "cached" for step in cost["steps"]):
        text += f" (with what it reused {money(cost['made']['money'], currency)})"
    if stored["bytes"]:
        text += f"; {size(stored['bytes'])} kept, {money(stored['money_a_month'], currency)} a month"
    return text


def hours(value: float) -> str:
    return "0" if value == 0 else f"{value:.2f}" if value >= 1 else f"{value:.2g}" if value >= 0.001 else "under 0.001"


def money(value: float | None, currency: str) -> str:
    """A price; `not known` where a price is missing."""
    if value is None:
        return "not known"
    if 0 < value < 0.01:
        return f"under 0.01 {currency}"
    return f"{value:,.2f} {currency}"


def _row(name: str, used: Mapping[str, Any], made: Mapping[str, Any] | None, stored: int | None, currency: str) -> Row:
    return Row(
        name=name,
        cpu_hours=hours(used["cpu_hours"]),
        gpu_hours=_gpus(used["gpu_hours"]),
        kept=size(stored),
        money=money(used["money"], currency),
        made="not known" if made is None else money(made["money"], currency),
    )


def _gpus(by_name: Mapping[str, float]) -> str:
    if len(by_name) <= 1:
        return hours(sum(by_name.values()))
    return ", ".join(f"{hours(value)} {name}" for name, value in by_name.items())


def _prices(cost: Mapping[str, Any]) -> str:
    prices = cost["prices"]
    named = [f"{price:g} for an hour of {name}" for name, price in prices["gpu_hours"].items()]
    return (
        f"Prices in {prices['currency']}: {prices['cpu_hour']:g} for an hour of a core, {', '.join(named)}"
        f"{', ' if named else ''}{prices['storage_gb_month']:g} for a gigabyte and month. They are an estimate."
    )
