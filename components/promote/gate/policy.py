"""What a gate asks for: a YAML file, every key typed, read into `Policy`. `gates/default.yaml` is what ships."""

import dataclasses
import hashlib
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import state
from components.steps import check_value
from model.errors import UserError, unknown_name
from model.yaml_files import read_yaml

SHIPPED = Path(__file__).parent.parent / "gates"
DEFAULT = SHIPPED / "default.yaml"
REPLAY = (
    "min_replay_looks",
    "max_replay_divergence",
    "max_replay_jerk",
    "max_replay_violations",
    "max_replay_latency_ms",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """The demands of a gate. Rates are fractions from 0 to 1; a demand that is None (null) is not made.

    Attributes:
        task, robot: what must have been evaluated; empty: any.
        min_trials: closed-loop trials of the policy.
        min_success_rate: the lower 95% bound of SR must reach it.
        min_progress_score: the lower 95% bound of PS must reach it.
        min_advantage: the lower 95% bound of the paired difference to replaying the mean trajectory must be above it.
        max_control_success_rate: above it, an untrained or blinded policy solves the task, which is warned about.
        max_drop: how far SR may be below the present champion's. Where both ran the same seeds this holds for the lower
            95% bound of the paired difference (non-inferiority), otherwise for the two rates.
        require_improvement: the lower bound of that difference must be above 0: being as good is not enough.
        regression_alpha: chance of refusing a policy that is worse in no task; divided among the tasks (Holm).
        max_limit_violations, max_velocity_violations: commands beyond the robot's limits, all trials together.
        max_latency_ms: the highest 99th percentile of any trial, as the client measured it.
        min_replay_looks: recorded observations that `lingbot models replay` asked the candidate. Any of these five asks
            for a replay.
        max_replay_divergence: mean difference to what the robots were sent, in standard deviations of each joint.
        max_replay_jerk: jerk of the candidate's chunks as a multiple of that of those that were sent.
        max_replay_violations: values beyond a position or velocity limit, as a share of all.
        max_replay_latency_ms: the 99th percentile of the model's time for a look, where the replay ran.
        require_leakage_record: refuse an evaluation that does not say what training saw; otherwise warn.
    """

    task: str = ""
    robot: str = ""
    min_trials: int = 50
    min_success_rate: float = 0.4
    min_progress_score: float | None = None
    min_advantage: float = 0.0
    max_control_success_rate: float = 0.05
    max_drop: float = 0.05
    require_improvement: bool = False
    regression_alpha: float = 0.05
    max_limit_violations: int | None = None
    max_velocity_violations: int | None = None
    max_latency_ms: float | None = None
    min_replay_looks: int | None = None
    max_replay_divergence: float | None = None
    max_replay_jerk: float | None = None
    max_replay_violations: float | None = None
    max_replay_latency_ms: float | None = None
    require_leakage_record: bool = False

    def __post_init__(self) -> None:
        if self.min_trials < 1:
            raise UserError(f"min_trials {self.min_trials} must be at least 1")
        rates = {
            "min_success_rate": self.min_success_rate,
            "min_progress_score": self.min_progress_score,
            "max_control_success_rate": self.max_control_success_rate,
            "max_drop": self.max_drop,
        }
        for name, rate in rates.items():
            if rate is not None and not 0 <= rate <= 1:
                raise UserError(f"{name} {rate} must be from 0 to 1: it is a fraction, not a percentage")
        if not -1 <= self.min_advantage <= 1:
            raise UserError(f"min_advantage {self.min_advantage} must be from -1 to 1: it is a fraction")
        if not 0 < self.regression_alpha < 1:
            raise UserError(f"regression_alpha {self.regression_alpha} must be between 0 and 1, 0.05 for instance")
        counts = {
            "max_limit_violations": self.max_limit_violations,
            "max_velocity_violations": self.max_velocity_violations,
        }
        for name, count in counts.items():
            if count is not None and count < 0:
                raise UserError(f"{name} {count} must be 0 or more, or null for any number")
        for name in REPLAY:
            least = 1 if name == "min_replay_looks" else 0
            value = dataclasses.asdict(self)[name]
            if value is not None and not least <= value < math.inf:
                raise UserError(f"{name} {value} must be {least} or more, or null to ask for nothing")
        if self.max_latency_ms is not None and not 0 < self.max_latency_ms < math.inf:
            raise UserError(f"max_latency_ms {self.max_latency_ms} must be above 0, or null for any latency")

    @property
    def asks_for_replay(self) -> bool:
        return any(value is not None for name, value in dataclasses.asdict(self).items() if name in REPLAY)

    def to_json(self) -> dict[str, Any]:
        """The demands. Those about replays came later: what asks for none has the digest that it had before."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in REPLAY or value is not None}

    @property
    def digest(self) -> str:
        """sha256 over the values, so that a comment in the file changes nothing and a default is as good as named."""
        return hashlib.sha256(state.canonical_json(self.to_json())).hexdigest()


def make_policy(values: Mapping[str, Any], where: str) -> Policy:
    """A policy from its keys; those that are not given have their defaults.

    Args:
        values: key -> value.
        where: the file or record, for errors.

    Raises:
        UserError: an unknown key, a value of another type, or one out of range; names it.
    """
    types = typing.get_type_hints(Policy)
    checked = {}
    for name, value in values.items():
        if name not in types:
            raise unknown_name(f"key of the gate {where}", str(name), types)
        checked[name] = check_value(f"{where}: {name}", value, types[name])
    try:
        return Policy(**checked)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def load_policy(path: Path | None = None) -> Policy:
    """The policy of a YAML file; the shipped default for None.

    Raises:
        UserError: the file is missing, no YAML, no mapping, or one of its keys is wrong.
    """
    path = path or DEFAULT
    where = path.name if path.parent == SHIPPED else str(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file: give a gate's YAML; {', '.join(_shipped())} ship in {SHIPPED.name}/")
    values = read_yaml(path, where)
    if not isinstance(values, dict):
        raise UserError(f"{where} must map keys such as min_trials to values, it is a {type(values).__name__}")
    return make_policy(values, where)


def _shipped() -> list[str]:
    return sorted(path.name for path in SHIPPED.glob("*.yaml"))
