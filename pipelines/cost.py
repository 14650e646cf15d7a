"""What a run cost: core hours, GPU hours and bytes of each step, and an estimate in money from a price file.

Here the hours are measured: processor time of the step's processes, and the time for which it held GPUs. On a cluster
they are what its pods reserve for as long as they run, as that is what is paid for. A step that was reused cost nothing
in this run; what it cost when it was made is said beside it.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components import typed
from components.progress import progress_path, read_progress
from model.errors import UserError
from pipelines.parameters import read_mapping
from pipelines.profile import Profile
from pipelines.quantities import number

PRICES = Path(__file__).parent / "prices.yaml"
MEASURED, RESERVED = "measured", "reserved"
SCHEMA_VERSION = 1
_GPU_LABEL = "nvidia.com/gpu.product"
_HERE = "nvidia.com/gpu"
_HOUR, _GIGABYTE = 3600.0, 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """Of one core for an hour, one GPU for an hour (by product, or by resource), and 10^9 bytes for a month."""

    currency: str
    cpu_hour: float
    gpu_hours: Mapping[str, float]
    storage_gb_month: float

    def __post_init__(self) -> None:
        named = {f"gpu_hours.{name}": price for name, price in self.gpu_hours.items()}
        for name, price in {"cpu_hour": self.cpu_hour, "storage_gb_month": self.storage_gb_month, **named}.items():
            if not price >= 0:
                raise UserError(f"{name} of the prices is {price}: it must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Used:
    """Hours of cores, and of GPUs by what they are called in the price file."""

    cpu_hours: float = 0.0
    gpu_hours: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Used") -> "Used":
        names = sorted({*self.gpu_hours, *other.gpu_hours})
        gpus = {name: self.gpu_hours.get(name, 0.0) + other.gpu_hours.get(name, 0.0) for name in names}
        return Used(cpu_hours=self.cpu_hours + other.cpu_hours, gpu_hours=gpus)

    def money(self, prices: Prices) -> float | None:
        """None when a GPU of it has no price."""
        if any(name not in prices.gpu_hours for name, hours in self.gpu_hours.items() if hours):
            return None
        gpus = sum(hours * prices.gpu_hours[name] for name, hours in self.gpu_hours.items() if hours)
        return self.cpu_hours * prices.cpu_hour + gpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reserved:
    """Pods that are paid for as long as they run: cores and GPUs, of all together."""

    cores: float = 0.0
    gpus: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepUse:
    """One step of a run: its use in this run, what making it took then or now (None: not known), and its bytes."""

    name: str
    status: str
    used: Used
    made: Used | None
    bytes: int | None = None


def load_prices(path: str = "") -> Prices:
    """The prices of a file; of the example beside this module when none is named.

    Raises:
        UserError: it is missing, or holds an unknown key or a wrong value.
    """
    file = Path(path) if path else PRICES
    return typed.read(Prices, read_mapping(file), f"the prices {file}")


def cost(steps: Sequence[StepUse], prices: Prices, basis: str) -> dict[str, Any]:
    """The cost of a run, as its record keeps it. Money is rounded to a thousandth; None where a price is missing."""
    total = sum((step.used for step in steps), Used())
    made = None if any(step.made is None for step in steps) else sum((step.made for step in steps if step.made), Used())
    known = [step.bytes for step in steps if step.bytes is not None]
    stored = sum(known) if known else None
    return {
        "schema_version": SCHEMA_VERSION,
        "basis": basis,
        "prices": dataclasses.asdict(prices),
        "steps": [
            {"name": step.name, "status": step.status, **_row(step.used, prices),
             "made": step.made and _row(step.made, prices), "bytes": step.bytes}
            for step in steps
        ],
        "total": _row(total, prices),
        "made": made and _row(made, prices),
        "storage": {
            "bytes": stored,
            "money_a_month": None if stored is None else _rounded(stored / _GIGABYTE * prices.storage_gb_month),
        },
        "without_price": sorted(
            {name for step in steps for name, hours in step.used.gpu_hours.items()
             if hours and name not in prices.gpu_hours}
        ),
    }  # fmt: skip


def cost_here(record: Mapping[str, Any], prices: Prices, jobs: Mapping[str, Reserved]) -> dict[str, Any]:
    """The cost of a run on this machine.

    Args:
        record: of the run.
        prices: see `load_prices`.
        jobs: step -> what it launches elsewhere (`jobs_of`).
    """
    steps = []
    for entry in record["steps"]:
        launched = jobs.get(entry["name"], Reserved())
        events, _ = read_progress(progress_path(record["id"], entry["name"]))
        used = sum((_measured(attempt, launched) for attempt in _attempts(events)), Used())
        made: Used | None = Used()  # of a step that did not finish nothing is kept
        if entry["status"] == "done":
            made = used
        elif entry["status"] == "cached":
            made = _measured(entry["made_with"], launched) if entry.get("made_with") else None
        steps.append(
            StepUse(name=entry["name"], status=entry["status"], used=used, made=made, bytes=entry.get("bytes"))
        )
    return cost(steps, prices, MEASURED)


def jobs_of(parameters: Mapping[str, Any]) -> Reserved:
    """What the pods of the training job that a step launches reserve.

    Raises:
        UserError: the settings of the cluster that its parameters name cannot be read.
    """
    if not parameters.get("cluster"):
        return Reserved()
    from components.launch.settings import load_settings

    settings = load_settings(Path(parameters["cluster"]))
    gpu = settings.scheduling.node_selector.get(_GPU_LABEL, settings.resources.gpu)
    return Reserved(
        cores=parameters["nodes"] * number(settings.resources.cpu),
        gpus={gpu: parameters["nodes"] * settings.resources.gpus},
    )


def cost_on_cluster(
    times: Iterable[tuple[str, str, float]],
    profile: Profile,
    prices: Prices,
    jobs: Mapping[str, Reserved],
    stored: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The cost of a run on a cluster.

    Args:
        times: name (`evaluate@2` for one of several), status and seconds of each step that ran or was reused.
        profile: that it was submitted with.
        prices: see `load_prices`.
        jobs: step -> what it launches beside its own pod.
        stored: name -> bytes of what it made, where that is known.
    """
    steps = []
    for name, status, seconds in times:
        step = name.partition("@")[0]
        settings = profile.steps.get(step, profile.every_step)
        used = Used()
        if status != "cached":
            gpu = settings.node_selector.get(_GPU_LABEL, settings.gpu)
            pod = Reserved(cores=number(settings.cpu or "1"), gpus={gpu: settings.gpus})
            used = _reserved(seconds, pod) + _reserved(seconds, jobs.get(step, Reserved()))
        made = None if status == "cached" else used
        steps.append(StepUse(name=name, status=status, used=used, made=made, bytes=(stored or {}).get(name)))
    return cost(steps, prices, RESERVED)


def _attempts(events: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """The use of each attempt of a step in a run. One that was killed said nothing of it: it counts as one core."""
    open_since: float | None = None
    last = 0.0
    for event in events:
        if event["event"] == "start":
            if open_since is not None:
                yield {"seconds": last - open_since}
            open_since = event["time"]
        elif event["event"] == "end":
            open_since = None
            if event["status"] != "cached":
                yield dict(event)
        last = event["time"]
    if open_since is not None:
        yield {"seconds": last - open_since}


def _measured(use: Mapping[str, Any], jobs: Reserved) -> Used:
    """From what an attempt wrote down. Older records know the seconds alone."""
    seconds = use["seconds"]
    own = Used(cpu_hours=use.get("cpu_seconds", seconds) / _HOUR, gpu_hours=_gpus(seconds, {_HERE: use.get("gpus", 0)}))
    return own + _reserved(seconds, jobs)


def _reserved(seconds: float, held: Reserved) -> Used:
    return Used(cpu_hours=held.cores * seconds / _HOUR, gpu_hours=_gpus(seconds, held.gpus))


def _gpus(seconds: float, gpus: Mapping[str, int]) -> dict[str, float]:
    return {name: count * seconds / _HOUR for name, count in gpus.items() if count}


def _row(used: Used, prices: Prices) -> dict[str, Any]:
    return {
        "cpu_hours": round(used.cpu_hours, 6),
        "gpu_hours": {name: round(hours, 6) for name, hours in used.gpu_hours.items()},
        "money": _rounded(used.money(prices)),
    }


def _rounded(money: float | None) -> float | None:
    return None if money is None else round(money, 4)
