"""Rules about the numbers of an episode, and about episodes against each other."""

from components.validate.rules import ERROR, RECORD, WARNING, Rule
from components.validate.thresholds import Thresholds

CONVERT = "Convert the column to the unit of model/robots, or leave the episode out."
LOOK = "Look at the episode: cut the motion out, or leave it out."


def number_rules(t: Thresholds, velocity_verified: bool) -> tuple[Rule, ...]:
    return (*_values(t), *_limits(t), *_motion(t, velocity_verified), *_tracking(t), *_stillness(t), *_across(t))


def _values(t: Thresholds) -> tuple[Rule, ...]:
    def units(name: str) -> Rule:
        return Rule(name=name, concern="units", column=name, fix=CONVERT, picture="plot")

    return (
        Rule(name="not_finite", concern="values", column="values_not_finite", fix=RECORD),
        units("unit_degrees"),
        units("unit_ticks"),
        units("unit_millimetres"),
        Rule(
            name="quaternion",
            concern="units",
            column="quaternion_error",
            high=t["quaternion_error"],
            fix="Normalise the rotation in 'observation.eef_pose', or leave the episode out.",
            picture="plot",
        ),
    )


def _limits(t: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(
            name="action_limits",
            concern="limits",
            column="action_beyond_limits",
            high=t["limit_tolerance"],
            fix="The robot cannot go there: leave the episode out, or correct the limits in model/robots.",
            picture="plot",
        ),
        Rule(
            name="state_limits",
            concern="limits",
            column="state_beyond_limits",
            high=t["state_limit_tolerance"],
            fix="Calibrate the joint, or correct the limits in model/robots.",
            picture="plot",
        ),
        Rule(
            name="gripper_range",
            concern="gripper",
            column="gripper_beyond_range",
            high=t["gripper_tolerance"],
            fix="Scale the gripper to the closed and open values of model/robots.",
            picture="plot",
        ),
        Rule(
            name="gripper_sign",
            concern="gripper",
            column="gripper_sign",
            low=-t["sign_correlation"],
            high=None,
            fix="Action and state count the gripper in opposite directions: turn one of them round.",
            picture="plot",
        ),
        Rule(
            name="gripper_inverted",
            concern="gripper",
            column="gripper_against_task",
            low=-t["gripper_resemblance"],
            high=None,
            fix="It opens where the other episodes of its task close: turn the gripper round in both columns.",
            picture="plot",
        ),
    )


def _motion(t: Thresholds, velocity_verified: bool) -> tuple[Rule, ...]:
    def ratio(name: str, threshold: str, verified: bool) -> Rule:
        severity = ERROR if verified or t.verified(threshold) else WARNING
        return Rule(
            name=name,
            concern="motion",
            column=f"{name}_ratio",
            high=1,
            fix=LOOK,
            severity=severity,
            picture="plot",
        )

    return (
        Rule(name="action_spike", concern="motion", column="action_spikes", fix=LOOK, picture="plot"),
        Rule(name="state_spike", concern="motion", column="state_spikes", fix=LOOK, picture="plot"),
        ratio("action_velocity", "action_velocity", velocity_verified),
        ratio("state_velocity", "state_velocity", velocity_verified),
        ratio("action_acceleration", "action_acceleration", False),
        ratio("action_jerk", "action_jerk", False),
    )


def _tracking(t: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(
            name="state_lags_action",
            concern="tracking",
            column="lag_seconds",
            high=t["lag_seconds"],
            fix="The controller or the recorder is late: shift the columns into step, or leave the episode out.",
            picture="plot",
        ),
        Rule(
            name="state_leads_action",
            concern="tracking",
            column="lead_frames",
            fix="The state follows the action, never the reverse: shift the columns into step.",
            picture="plot",
        ),
        Rule(
            name="tracking_offset",
            concern="tracking",
            column="tracking_offset",
            high=t["tracking_offset"],
            fix="Calibrate the zero of the joint, or leave the episode out.",
            picture="plot",
        ),
        Rule(
            name="joint_sign",
            concern="tracking",
            column="joint_sign",
            low=-t["sign_correlation"],
            high=None,
            fix="Action and state count the joint in opposite directions: turn one of them round.",
            picture="plot",
        ),
        Rule(name="joint_stuck", concern="tracking", column="joints_stuck", fix=RECORD, picture="plot"),
        Rule(
            name="state_frozen",
            concern="tracking",
            column="state_frozen_seconds",
            high=t["state_frozen_seconds"],
            fix="The state was not read there: record the episode again, or cut it.",
            picture="plot",
        ),
        Rule(
            name="action_frozen",
            concern="tracking",
            column="action_frozen_seconds",
            high=t["action_frozen_seconds"],
            fix="The action was not recorded there: record the episode again, or cut it.",
            picture="plot",
        ),
    )


def _stillness(t: Thresholds) -> tuple[Rule, ...]:
    cut = "Cut it off: a policy learns to wait from it."
    return (
        Rule(name="static_episode", concern="stillness", column="static_episode", fix=RECORD),
        Rule(
            name="static_head",
            concern="stillness",
            column="static_head_seconds",
            high=t["still_seconds"],
            fix=cut,
            severity=WARNING,
            picture="plot",
        ),
        Rule(
            name="static_tail",
            concern="stillness",
            column="static_tail_seconds",
            high=t["still_seconds"],
            fix=cut,
            severity=WARNING,
            picture="plot",
        ),
    )


def _across(t: Thresholds) -> tuple[Rule, ...]:
    remove = "Remove one of the two."
    return (
        Rule(name="duplicate_episode", concern="duplicates", column="duplicate_of", fix=remove),
        Rule(name="near_duplicate", concern="duplicates", column="near_duplicate_of", fix=remove),
        Rule(
            name="duplicate_video",
            concern="duplicates",
            column="duplicate_video_of",
            fix="The video belongs to another episode: restore its own.",
        ),
        Rule(
            name="split_leakage",
            concern="duplicates",
            column="split_leakage",
            fix="Leave one out: what is trained on must not be tested on.",
        ),
        Rule(
            name="holdout_leakage",
            concern="duplicates",
            column="holdout_leakage",
            fix="Leave it out: validate.holdout names the dataset that must not be trained on.",
        ),
        Rule(
            name="reference_drift",
            concern="statistics",
            column="reference_shift",
            high=t["reference_shift"],
            fix="Compare its robot, units and task with the reference.",
            severity=WARNING,
            once=True,
        ),
    )
