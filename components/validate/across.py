"""Comparisons across the episodes of a dataset: unusual pictures, exchanged or turned views, duplicates, leakage.

What is usual is a median over episodes, so a few faulty ones do not move it. Pictures are compared from `ENOUGH`
episodes on.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from components.validate.measure.joints import Joints
from components.validate.measure.scan import Scan
from components.validate.measure.tracking import correlate
from components.validate.summary import EpisodeSummary, longest_run, rounded
from components.validate.thresholds import Thresholds
from model.data.lerobot import ACTION, STATE

ENOUGH = 4  # episodes
POINTS = 16  # of an episode's motion, for its signature


def remember(row: EpisodeSummary, joints: Joints) -> None:
    """Keeps of an episode's vectors what comparisons need, and drops the vectors."""
    present = [row.vectors[key] for key in (STATE, ACTION) if key in row.vectors]
    if len(present) == 2 and len(present[0]) >= 2:
        together = np.ascontiguousarray(np.concatenate(present, axis=1).astype(np.float32))
        places = np.linspace(0, len(together) - 1, POINTS)
        low = places.astype(int)
        share = (places - low)[:, None]
        row.traits["digest"] = hashlib.sha256(together.tobytes()).hexdigest()
        row.traits["signature"] = (1 - share) * together[low] + share * together[np.minimum(low + 1, len(together) - 1)]
        row.traits["grippers"] = _openings(row.traits["signature"], joints)
    for key, values in row.vectors.items():
        row.traits[f"mean {key}"], row.traits[f"second {key}"] = values.mean(axis=0), (values**2).mean(axis=0)


def compare(rows: Sequence[EpisodeSummary], joints: Joints, thresholds: Thresholds, fps: float) -> None:
    """Measures every row against the others."""
    for camera in dict.fromkeys(camera for row in rows for camera in row.scans):
        seen = [row for row in rows if camera in row.scans and not row.faulty("black_frames", "flat_frames")]
        if len(seen) >= ENOUGH:
            _compare_pictures(seen, camera, thresholds, fps)
    _compare_places(rows, thresholds)
    _find_duplicates(rows, thresholds)
    _find_inverted_grippers(rows, joints)


def _compare_pictures(rows: Sequence[EpisodeSummary], camera: str, thresholds: Thresholds, fps: float) -> None:
    scans = [row.scans[camera] for row in rows]
    with np.errstate(invalid="ignore"):
        detail = float(np.median([_median(each.detail) for each in scans]))
        noise = float(np.median([_median(each.noise) for each in scans]))
        level = float(np.median([_median(each.level) for each in scans]))
        chroma = np.median([_tint(each) for each in scans], axis=0)
    for row, each in zip(rows, scans, strict=True):
        noisy = each.noise > thresholds["noise_ratio"] * max(noise, 1.0)
        first, length = longest_run((each.detail < thresholds["blur_detail"] * detail) & ~noisy)
        _keep_worst(
            row,
            "blurred_seconds",
            length / fps,
            _blurred(camera, first, each.detail[first : first + length] / detail),
            camera=camera,
            frame=first,
            frames=length,
        )
        place = int(np.argmax(noisy))
        _keep_worst(
            row,
            "noisy_frames",
            int(noisy.sum()),
            f"{int(noisy.sum())} frames of '{camera}' are full of noise, the first is frame {place}",
            camera=camera,
            frame=place,
            frames=int(noisy.sum()),
        )
        shift = float(np.abs(_tint(each) - chroma).max()) * level
        _keep_worst(
            row,
            "colour_shift",
            None if np.isnan(shift) else shift,
            f"the mean colour of '{camera}' is {shift:.3g} levels off the other episodes'",
            camera=camera,
            frame=each.frames // 2,
        )
        own = max(_median(each.level), 0.5)
        ratio = max(own / max(level, 0.5), max(level, 0.5) / own)
        _keep_worst(
            row,
            "exposure_ratio",
            ratio,
            f"the mean grey level of '{camera}' is {own:.3g}, in the other episodes {level:.3g}",
            camera=camera,
            frame=each.frames // 2,
        )


def _compare_places(rows: Sequence[EpisodeSummary], thresholds: Thresholds) -> None:
    """Views that show what another camera usually shows, or their own picture turned or mirrored."""
    whole = [row for row in rows if row.scans and not row.faulty("black_frames", "flat_frames")]
    if len(whole) < ENOUGH:
        return
    cameras = list(dict.fromkeys(camera for row in whole for camera in row.scans))
    usual = {
        camera: np.median([row.scans[camera].thumbnail for row in whole if camera in row.scans], axis=0)
        for camera in cameras
    }
    margin, least = thresholds["view_resemblance"], thresholds["view_steadiness"]
    # A scene that changes from episode to episode has no usual picture to be held against.
    steady = {
        camera: float(
            np.median([_alike(row.scans[camera].thumbnail, usual[camera]) for row in whole if camera in row.scans])
        )
        >= least
        for camera in cameras
    }
    for row in whole:
        exchanged, turned = [], []
        for camera, each in row.scans.items():
            picture, own = each.thumbnail, _alike(each.thumbnail, usual[camera])
            others = {name: _alike(picture, usual[name]) for name in cameras if name != camera and steady[name]}
            nearest = max(others, key=lambda name: others[name], default="")
            turns = {"upside down": picture[::-1], "mirrored": picture[:, ::-1], "turned by 180": picture[::-1, ::-1]}
            turn = max(turns, key=lambda name: _alike(turns[name], usual[camera]))
            found = _alike(turns[turn], usual[camera])
            if nearest and others[nearest] > max(own + margin, least) and others[nearest] >= found:
                exchanged.append((camera, f"'{camera}' shows what '{nearest}' shows in the other episodes"))
            elif steady[camera] and found > max(own + margin, least):
                turned.append((camera, f"'{camera}' is {turn}"))
        for column, faults in (("views_exchanged", exchanged), ("views_turned", turned)):
            row.measure(
                column,
                len(faults),
                "; ".join(words for _, words in faults),
                **({"camera": faults[0][0], "frame": 0} if faults else {}),
            )


def _find_duplicates(rows: Sequence[EpisodeSummary], thresholds: Thresholds) -> None:
    by_digest: dict[str, int] = {}
    by_video: dict[tuple[str, str], int] = {}
    for row in rows:
        first = by_digest.setdefault(row.traits["digest"], row.episode) if "digest" in row.traits else row.episode
        copy = first != row.episode
        row.measure("duplicate_of", copy, f"its states and actions are those of episode {first}", original=first)
        shown = []
        for camera, each in row.scans.items():
            owner = by_video.setdefault((camera, each.digest), row.episode)
            if owner != row.episode and not copy and each.change.any():
                shown.append((camera, owner))
        row.measure(
            "duplicate_video_of",
            len(shown),
            "; ".join(f"'{camera}' shows the video of episode {owner}" for camera, owner in shown),
            **({"camera": shown[0][0], "original": shown[0][1]} if shown else {}),
        )
    alone = [row for row in rows if "signature" in row.traits and not row.faulty("duplicate_of", "static_episode")]
    if len(alone) < 2:
        return
    signatures = np.stack([row.traits["signature"] for row in alone])
    spread = np.maximum(np.median(signatures.std(axis=1), axis=0), 1e-2)
    flat = (signatures / spread).reshape(len(alone), -1).astype(np.float32)
    squares = (flat**2).sum(axis=1)
    for place in range(1, len(alone)):
        distance = squares[:place] + squares[place] - 2 * flat[:place] @ flat[place]
        nearest = int(np.argmin(distance))
        apart = float(np.sqrt(((flat[nearest] - flat[place]) ** 2).mean()))
        row, original = alone[place], alone[nearest].episode
        row.measure(
            "near_duplicate_of",
            apart < thresholds["duplicate_distance"],
            f"its motion is that of episode {original} but for {apart:.2g} of the spread of the data",
            **rounded({"original": original, "distance": apart}),
        )


def _find_inverted_grippers(rows: Sequence[EpisodeSummary], joints: Joints) -> None:
    """A gripper that opens where those of the same task usually close."""
    tasks: dict[str, list[EpisodeSummary]] = {}
    for row in rows:
        if row.traits.get("grippers") is not None:
            tasks.setdefault(row.task, []).append(row)
    for members in tasks.values():
        if len(members) <= ENOUGH:
            continue
        openings = np.stack([row.traits["grippers"] for row in members])  # [N, POINTS, G]
        usual = np.median(openings, axis=0)
        likeness = np.stack([correlate(each, usual) for each in openings])
        clear = (np.ptp(usual, axis=0) > 0.3) & (np.median(likeness, axis=0) > 0.6)
        for row, each, own in zip(members, likeness, openings, strict=True):
            judged = clear & (np.ptp(own, axis=0) > 0.3)
            if not judged.any():
                continue
            gripper = int(np.argmin(np.where(judged, each, np.inf)))
            pair = joints.gripper_pairs[gripper]
            row.measure(
                "gripper_against_task",
                each[gripper],
                f"'{joints.columns[STATE].names[pair[0]]}' opens where it closes in the other episodes of its task "
                f"(correlation {each[gripper]:.2f})",
                column=STATE,
                dimension=int(pair[0]),
            )


def find_leakage(
    rows: Sequence[EpisodeSummary], splits: Mapping[str, range], held_out: Mapping[str, int] | None
) -> None:
    """Copies of one split's episodes in another, and of episodes of a dataset that must not be trained on.

    Args:
        held_out: digest of states and actions -> episode, of that dataset; None when none is named.
    """
    owner = {row.traits["digest"]: row for row in reversed(rows) if "digest" in row.traits}
    for row in rows:
        digest = row.traits.get("digest")
        if digest is None:
            continue
        if held_out is not None:
            there = held_out.get(digest)
            row.measure(
                "holdout_leakage", there is not None, f"it is episode {there} of the held-out dataset", original=there
            )
        first = owner[digest].episode
        mine, other = (_splits_of(episode, splits) for episode in (row.episode, first))
        if first != row.episode and mine and other and mine != other:
            row.measure(
                "split_leakage",
                1,
                f"it is of split '{mine[0]}' and a copy of episode {first} of split '{other[0]}'",
                original=first,
                splits=[other[0], mine[0]],
            )
            row.values["duplicate_of"] = 0  # told once, by the graver name


def _splits_of(episode: int, splits: Mapping[str, range]) -> list[str]:
    return [name for name, episodes in splits.items() if episode in episodes]


def _openings(signature: np.ndarray, joints: Joints) -> np.ndarray | None:
    """Float [POINTS, G]: the state's grippers as openings, 0 closed to 1 open."""
    column = joints.columns[STATE]
    if not len(joints.gripper_pairs):
        return None
    places = np.searchsorted(column.grippers, joints.gripper_pairs[:, 0])
    span = column.opened[places] - column.closed[places]
    return (signature[:, joints.gripper_pairs[:, 0]] - column.closed[places]) / span


def _tint(each: Scan) -> np.ndarray:
    """The mean colour as a fraction of the brightness: a dark picture has the colours of a bright one."""
    return (each.chroma - 128) / max(_median(each.level), 1.0)


def _blurred(camera: str, first: int, detail: np.ndarray) -> str:
    if not len(detail):
        return ""
    return (
        f"'{camera}' is blurred for {len(detail)} frames from frame {first} on: its edges have {detail.min():.2g} of "
        "their usual detail"
    )


def _alike(first: np.ndarray, second: np.ndarray) -> float:
    if first.shape != second.shape:
        return 0.0
    return float(correlate(first.reshape(-1, 1), second.reshape(-1, 1))[0])


def _median(values: np.ndarray) -> float:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else float("nan")


def _keep_worst(row: EpisodeSummary, column: str, value: float | None, sentence: str, /, **evidence: object) -> None:
    """Of several cameras the one that is furthest off."""
    known = row.values.get(column)
    if value is not None and (known is None or value > known):
        row.measure(column, value, sentence, **evidence)
