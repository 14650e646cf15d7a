"""Every rule, a file for each kind of measurement."""

from components.validate.rulebook.files import file_rules
from components.validate.rulebook.numbers import number_rules
from components.validate.rulebook.pictures import picture_rules
from components.validate.rules import Rule
from components.validate.thresholds import Thresholds


def episode_rules(
    thresholds: Thresholds, *, spacing_tolerance: float, drift_tolerance: float, velocity_verified: bool
) -> tuple[Rule, ...]:
    """The rules, with the thresholds of a robot and the tolerances of a run.

    Args:
        spacing_tolerance: of one step between timestamps, as a fraction of 1/fps.
        drift_tolerance: of the whole span of an episode's timestamps, as a fraction of it.
        velocity_verified: the robot's file states the velocity limits of its arms.
    """
    rules = (
        *file_rules(thresholds, spacing_tolerance, drift_tolerance),
        *picture_rules(thresholds),
        *number_rules(thresholds, velocity_verified),
    )
    names = [rule.name for rule in rules]
    assert len(set(names)) == len(names), "two rules have one name"
    return rules
