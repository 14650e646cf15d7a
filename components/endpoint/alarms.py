"""Observations held against the training data: swapped cameras, other units, a lens that is covered raise an alarm.

An alarm changes no answer: it is counted, logged once, and told in the reply. What is compared is small: a thumbnail of
8x8 fields of each view with its mean and spread in training (`model.data.view_statistics`), and each joint with its
range. A bundle without statistics of views (made before they were kept, or never trained) raises those of joints alone.

How far apart these are, measured on the demo dataset (three views, held-out episodes): a picture's own distance is 0.3
to 0.7 on average and at most 1.2, a black one's 10 to 20, and exchanging the two wrist cameras, which look alike, moves
the distance by at least 1.1.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request
from model.data.view_statistics import GRID, thumbnail, view_key

if TYPE_CHECKING:
    from components.endpoint.served import Served
    from model.data.normalization import Statistics
    from model.robots import Robot

SUSTAINED = 3  # observations in a row before an alarm is raised: one odd picture is none
FROZEN = 10  # equal pictures in a row, while the joints move, that no camera with noise gives
_FLOOR = 2.0  # grey levels: the noise of a camera, so that a field that never changed in training may change a little
_WORST = 25.0  # one field's squared deviation counts at most this, so that a reflection does not decide
_UNLIKE = 4.0  # mean squared deviation: twice training's own spread in every field
_SWAPPED = 0.5  # by how much two views must fit better in each other's place
_BETTER = 0.5  # share of the distance that is left when an explanation fits
_MARGIN = 0.25  # of a joint's range in training that it may leave it by
_MOVED = 1e-3  # robot units
# A joint's unit in the robot's file: what it may be sent in by mistake, and by how much that is to be multiplied.
_MISTAKEN = {
    "radian": ("degrees", np.pi / 180),
    "degree": ("radians", 180 / np.pi),
    "metre": ("millimetres", 1e-3),
    "millimetre": ("metres", 1e3),
    "normalized": ("percent", 1e-2),
    "percent": ("shares of 1", 1e2),
}
MAX_WATCHED = 1024
logger = logging.getLogger("lingbot.endpoint")


@dataclass(frozen=True, kw_only=True, order=True)
class Alarm:
    """`kind` and `input` are few and the server's own, for the metric; `text` is for people."""

    kind: str
    input: str
    text: str = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Training data in numbers. `views`: the cameras with statistics; `mean`, `spread` f64 [V, fields].

    `low`, `high` f64 [S] are the joints' range, widened; `names` and `units` are the joints', a unit "" where unknown.
    """

    views: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]

    @classmethod
    def of(cls, statistics: "Mapping[str, Statistics]", cameras: Sequence[str], robot: "Robot") -> "Reference":
        """From a bundle's statistics, as it holds them for its normalisation and its views."""
        views = tuple(name for name in cameras if view_key(name) in statistics)
        found = [statistics[view_key(name)] for name in views]
        fields = GRID * GRID * 3
        joints = statistics["state"]
        units = {joint.name: group.unit for group in robot.groups for joint in group.joints}
        margin = _MARGIN * (joints.max - joints.min) + _MOVED
        return cls(
            views=views,
            mean=np.array([one.mean for one in found]).reshape(-1, fields),
            spread=np.array([one.std for one in found]).reshape(-1, fields) + _FLOOR,
            low=joints.min - margin,
            high=joints.max + margin,
            names=robot.state_names,
            units=tuple(units.get(name, "") for name in robot.state_names),
        )

    def distances(self, thumbnails: np.ndarray) -> np.ndarray:
        """f64 [V,V]: how far the view in each row is from the training data of the camera in each column."""
        z = (thumbnails[:, None] - self.mean[None]) / self.spread[None]
        return np.minimum(z**2, _WORST).mean(axis=2)


class InputWatch:
    """What one robot has sent lately, for one version."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._in_a_row: dict[Alarm, int] = {}
        self._still: dict[str, int] = {}
        self._last: tuple[dict[str, bytes], np.ndarray] | None = None

    def look(self, request: Request) -> list[Alarm]:
        """The alarms that stand: those of this observation that the ones before it had too."""
        pictures = {name: thumbnail(image) for name, image in request.images.items()}
        now = self._of_views(pictures) + self._of_state(request.state.astype(np.float64))
        self._in_a_row = {alarm: self._in_a_row.get(alarm, 0) + 1 for alarm in now}
        standing = [alarm for alarm in now if self._in_a_row[alarm] >= SUSTAINED]
        return sorted(standing + self._frozen(pictures, request.state))

    def _of_views(self, thumbnails: Mapping[str, np.ndarray]) -> list[Alarm]:
        views = self._reference.views
        if not views:
            return []
        pictures = np.stack([thumbnails[name] for name in views]).astype(np.float64)
        distances = self._reference.distances(pictures.reshape(len(views), -1))
        own = np.diagonal(distances)
        swapped: set[int] = set()
        alarms = []
        for one, other in itertools.combinations(range(len(views)), 2):
            gain = own[one] + own[other] - distances[one, other] - distances[other, one]
            if gain > _SWAPPED:
                swapped |= {one, other}
                pair = f"{views[one]} and {views[other]}"
                text = f"{pair} look as if they were exchanged: each fits the other's training pictures better"
                alarms.append(Alarm(kind="swapped_cameras", input=f"{views[one]}+{views[other]}", text=text))
        for view in range(len(views)):
            if own[view] > _UNLIKE and view not in swapped:
                alarms.append(self._unlike(view, pictures, own[view]))
        return alarms

    def _unlike(self, view: int, pictures: np.ndarray, distance: float) -> Alarm:
        name, picture = self._reference.views[view], pictures[view]
        text = f"{name} looks unlike its training pictures (distance {distance:.1f}, usual up to 1)"
        turned = {
            "with red and blue exchanged": picture[..., ::-1],
            "turned upside down": picture[::-1, ::-1],
            "mirrored": picture[:, ::-1],
        }
        for how, other in turned.items():
            stack = pictures.copy()
            stack[view] = other
            if self._reference.distances(stack.reshape(len(stack), -1))[view, view] < _BETTER * distance:
                return Alarm(kind="unlike_training", input=name, text=f"{text}; it would fit {how}")
        return Alarm(kind="unlike_training", input=name, text=text)

    def _of_state(self, state: np.ndarray) -> list[Alarm]:
        reference = self._reference
        outside = (state < reference.low) | (state > reference.high)
        if not outside.any():
            return []
        others = np.flatnonzero(outside)
        sent = self._mistaken(state, others)
        if sent:
            names = ", ".join(f"{reference.names[joint]} in {unit}" for joint, unit in sent.items())
            return [Alarm(kind="state_units", input="state", text=f"the state looks sent in other units: {names}")]
        return [
            Alarm(
                kind="state_range",
                input=reference.names[joint],
                text=f"{reference.names[joint]} is outside its training range of {reference.low[joint]:.3g} to "
                f"{reference.high[joint]:.3g}",
            )
            for joint in others
        ]

    def _mistaken(self, state: np.ndarray, joints: np.ndarray) -> dict[int, str]:
        """The unit that each of these joints seems to be sent in, if it explains all of them. One joint alone would fit
        too easily."""
        reference, found = self._reference, {}
        for joint in joints:
            unit, factor = _MISTAKEN.get(reference.units[joint], ("", 0.0))
            if unit and reference.low[joint] <= state[joint] * factor <= reference.high[joint]:
                found[int(joint)] = unit
        return found if len(found) == len(joints) >= 2 else {}

    def _frozen(self, thumbnails: Mapping[str, np.ndarray], state: np.ndarray) -> list[Alarm]:
        """A camera whose picture does not change by one bit while the joints do: a live one has noise."""
        pictures = {name: picture.tobytes() for name, picture in thumbnails.items()}
        last, self._last = self._last, (pictures, state)
        if last is None or np.abs(state - last[1]).max() < _MOVED:
            return []
        self._still = {
            name: self._still.get(name, 0) + 1 if last[0].get(name) == picture else 0
            for name, picture in pictures.items()
        }
        return [
            Alarm(kind="frozen_camera", input=name, text=f"{name} has sent one picture while the joints moved")
            for name, count in self._still.items()
            if count >= FROZEN
        ]


class Watches:
    """The watch of each robot and version: counts, logs an alarm when it is raised, and forgets the oldest robots."""

    def __init__(self, metrics: Metrics, limit: int = MAX_WATCHED) -> None:
        self._metrics, self._limit = metrics, limit
        self._references: OrderedDict[str, Reference] = OrderedDict()
        self._watches: OrderedDict[Hashable, tuple[InputWatch, set[Alarm]]] = OrderedDict()

    def look(self, robot: str, served: "Served", requests: Sequence[Request]) -> list[str]:
        """The texts of what stands after these observations; empty when all is as in training.

        Args:
            robot: names who sends: its connection or session, or its client where each request is a session.
            served: whose training data they are held against.
            requests: in their order.
        """
        watch, raised = self._watch(robot, served)
        standing: list[Alarm] = []
        for request in requests:
            standing = watch.look(request)
            for alarm in standing:
                self._metrics.count("input_alarms", version=served.model_version, alarm=alarm.kind, input=alarm.input)
        for alarm in standing:
            if alarm not in raised:
                logger.warning("input alarm %s: %s", alarm.kind, alarm.text, extra={"alarm": alarm.kind})
        raised.clear()
        raised.update(standing)
        return [alarm.text for alarm in standing]

    def _watch(self, robot: str, served: "Served") -> tuple[InputWatch, set[Alarm]]:
        key = robot, served.digest
        found = self._watches.get(key)
        if found is None:
            found = self._watches[key] = InputWatch(self._reference(served)), set()
            if len(self._watches) > self._limit:
                self._watches.popitem(last=False)
        self._watches.move_to_end(key)
        return found

    def _reference(self, served: "Served") -> Reference:
        found = self._references.get(served.digest)
        if found is None:
            cameras = [camera.name for camera in served.contract.cameras]
            statistics = served.bundle.preparation.statistics
            found = self._references[served.digest] = Reference.of(statistics, cameras, served.bundle.robot)
            if len(self._references) > 8:
                self._references.popitem(last=False)
        return found
