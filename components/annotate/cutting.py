"""Where a robot's episodes are cut: by the step's parameters, and by the robot's own where those are defaults."""

from dataclasses import fields
from pathlib import Path

from model.data.segmentation import SegmentationSettings
from model.yaml_files import read_yaml

ROBOTS = Path(__file__).with_name("robots.yaml")


def settings_of(robot: str, given: SegmentationSettings) -> SegmentationSettings:
    """The settings for a robot's episodes.

    Args:
        robot: its id; one without values in robots.yaml is cut as `given` says.
        given: a value that differs from the default counts before the robot's.
    """
    own = read_yaml(ROBOTS).get(robot, {})
    values = {field.name: getattr(given, field.name) for field in fields(SegmentationSettings)}
    standard = {field.name for field in fields(SegmentationSettings) if values[field.name] == field.default}
    return SegmentationSettings(**values | {name: value for name, value in own.items() if name in standard})
