"""Rules about videos, what they show, and whether views and joints are in step."""

from components.validate.rules import RECORD, RESTORE, WARNING, Rule
from components.validate.thresholds import Thresholds

REENCODE = "Encode the video again, or correct the feature in meta/info.json."
CAMERA = "Look at the camera: record the episode again, or leave it out."


def picture_rules(t: Thresholds) -> tuple[Rule, ...]:
    return (*_video(), *_pictures(t), *_views(t))


def _video() -> tuple[Rule, ...]:
    return (
        Rule(name="video_missing", concern="video", column="video_missing", fix=RESTORE),
        Rule(name="video_unreadable", concern="video", column="video_unreadable", fix=RESTORE),
        Rule(name="video_frames", concern="video", column="video_frame_difference", fix=RECORD),
        Rule(name="video_size", concern="video", column="video_size_wrong", fix=REENCODE),
        Rule(name="video_fps", concern="video", column="video_fps_error", high=0.005, fix=REENCODE),
        Rule(
            name="video_codec",
            concern="video",
            column="video_codec_wrong",
            fix="It is read all the same; correct the feature in meta/info.json.",
            severity=WARNING,
            once=True,
        ),
    )


def _pictures(t: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(
            name="frozen",
            concern="pictures",
            column="frozen_seconds",
            high=t["frozen_seconds"],
            fix=CAMERA,
            picture="frames",
        ),
        Rule(name="black", concern="pictures", column="black_frames", fix=CAMERA, picture="frames"),
        Rule(name="flat", concern="pictures", column="flat_frames", fix=CAMERA, picture="frames"),
        Rule(
            name="blurred",
            concern="pictures",
            column="blurred_seconds",
            high=t["blur_seconds"],
            fix="Focus or clean the camera, and record the episode again.",
            picture="frames",
        ),
        Rule(name="noisy", concern="pictures", column="noisy_frames", fix=CAMERA, picture="frames"),
        Rule(
            name="colours",
            concern="pictures",
            column="colour_shift",
            high=t["colour_shift"],
            fix="Red and blue may be exchanged, or the white balance moved: convert the video, or leave it out.",
            picture="frames",
        ),
        Rule(
            name="exposure",
            concern="pictures",
            column="exposure_ratio",
            high=t["exposure_ratio"],
            fix=CAMERA,
            picture="frames",
        ),
    )


def _views(t: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(
            name="view_exchanged",
            concern="views",
            column="views_exchanged",
            fix="Rename the episode's videos to the camera that they show.",
            picture="frames",
        ),
        Rule(
            name="view_turned",
            concern="views",
            column="views_turned",
            fix="Turn or mirror the video back, or leave the episode out.",
            picture="frames",
        ),
        Rule(
            name="view_out_of_step",
            concern="views",
            column="view_lag",
            high=t["step_seconds"],
            fix="One camera has another delay than the others: cut its video into step, or leave the episode out.",
            picture="plot",
        ),
        Rule(
            name="video_out_of_step",
            concern="views",
            column="video_lag",
            high=t["step_seconds"],
            fix="The table and the videos were not recorded together: shift them into step, or leave the episode out.",
            picture="plot",
        ),
    )
