"""Swapped cameras, other units and dead cameras raise an alarm; what looks like training does not."""

from dataclasses import replace

import numpy as np
import pytest

from components.endpoint.alarms import FROZEN, SUSTAINED, InputWatch, Reference, Watches
from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request
from components.endpoint.served import Served
from model.data.normalization import StatisticsAccumulator
from model.data.view_statistics import thumbnail, view_key
from model.robots.robot import Joint
from tests.components.waiting import wait_for

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
JOINTS = ("waist", "shoulder", "left_gripper", "right_gripper")
UNITS = ("radian", "radian", "normalized", "normalized")


def robot_of(real):
    """A robot of four joints: two turn, two grip."""
    groups = tuple(
        replace(real.groups[0], name=name, kind="arm", unit=unit, slot=slot, joints=(Joint(name=name),))
        for slot, (name, unit) in enumerate(zip(JOINTS, UNITS, strict=True))
    )
    slots = (0, 1, 2, 3)
    names = {"state_names": JOINTS, "action_names": JOINTS, "state_slots": slots, "action_slots": slots}
    return replace(real, groups=groups, **names)


class Scene:
    """Three views, each a coloured ramp of its own with an object that moves, noise and light that varies."""

    def __init__(self, seed=0):
        self._rng = np.random.default_rng(seed)
        ramp = np.linspace(60, 160, 96)
        self._views = {
            "cam_high": np.stack(np.broadcast_arrays(ramp[:, None], ramp[None] / 2, 40), -1),
            "cam_left_wrist": np.stack(np.broadcast_arrays(ramp[None], 90, ramp[:, None] / 3), -1),
            "cam_right_wrist": np.stack(np.broadcast_arrays(ramp[::-1][None], 90, ramp[:, None] / 3), -1),
        }

    def request(self):
        images = {}
        for name, view in self._views.items():
            picture = view * self._rng.uniform(0.9, 1.1) + self._rng.normal(0, 2, view.shape)
            row, column = self._rng.integers(0, 80, 2)
            picture[row : row + 16, column : column + 16] = (200, 30, 30)
            images[name] = picture.clip(0, 255).astype(np.uint8)
        state = self._rng.uniform([-1, 0.3, 0, 0], [1, 1.5, 1, 1]).astype(np.float32)
        return Request(images=images, state=state, task="lift", seed=None)


def statistics_of(requests, cameras=CAMERAS):
    found = {}
    for name in cameras:
        accumulator = StatisticsAccumulator()
        accumulator.add(np.stack([thumbnail(request.images[name]).ravel() for request in requests]))
        found[view_key(name)] = accumulator.result()
    states = StatisticsAccumulator()
    states.add(np.stack([request.state for request in requests]))
    return found | {"state": states.result()}


@pytest.fixture(scope="module")
def statistics():
    scene = Scene()
    return statistics_of([scene.request() for _ in range(200)])


@pytest.fixture
def reference(statistics, bundle):
    return Reference.of(statistics, CAMERAS, robot_of(bundle.robot))


@pytest.fixture
def scene():
    return Scene(seed=1)


def changed(request, images=None, state=None):
    return Request(
        images=request.images if images is None else images,
        state=request.state if state is None else np.asarray(state, dtype=np.float32),
        task=request.task,
        seed=None,
    )


def raised(reference, scene, change, times=SUSTAINED):
    watch = InputWatch(reference)
    for _ in range(times):
        found = watch.look(change(scene.request()))
    return {(alarm.kind, alarm.input): alarm.text for alarm in found}


def test_what_looks_like_training_raises_nothing(reference, scene):
    watch = InputWatch(reference)
    assert [watch.look(scene.request()) for _ in range(200)] == [[]] * 200


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_swapped_cameras_are_named(reference, scene, one, other):
    one, other = CAMERAS[one], CAMERAS[other]

    def swap(request):
        images = dict(request.images)
        images[one], images[other] = images[other], images[one]
        return changed(request, images=images)

    found = raised(reference, scene, swap)
    assert list(found) == [("swapped_cameras", f"{one}+{other}")]
    assert f"{one} and {other} look as if they were exchanged" in found["swapped_cameras", f"{one}+{other}"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: np.zeros_like(image), "unlike its training pictures"),
        (lambda image: image[..., ::-1], "red and blue exchanged"),
        (lambda image: image[::-1, ::-1], "upside down"),
    ],
)
def test_a_picture_unlike_training_is_explained_where_it_can_be(reference, scene, change, words):
    name = "cam_high"
    found = raised(
        reference, scene, lambda r: changed(r, images={**r.images, name: np.ascontiguousarray(change(r.images[name]))})
    )
    assert list(found) == [("unlike_training", name)] and words in found["unlike_training", name]


def test_degrees_for_radians_are_named_as_that(reference, scene):
    found = raised(reference, scene, lambda r: changed(r, state=[80.0, 60.0, r.state[2], r.state[3]]))
    assert found["state_units", "state"].endswith("other units: waist in degrees, shoulder in degrees")


def test_a_gripper_in_percent_is_named_as_that(reference, scene):
    found = raised(reference, scene, lambda r: changed(r, state=[r.state[0], r.state[1], 90.0, 75.0]))
    assert found["state_units", "state"].endswith("left_gripper in percent, right_gripper in percent")


def test_one_joint_out_of_its_range_is_named(reference, scene):
    found = raised(reference, scene, lambda r: changed(r, state=[r.state[0], 2.6, r.state[2], r.state[3]]))
    assert list(found) == [("state_range", "shoulder")]


def test_one_odd_observation_is_no_alarm_and_an_alarm_ends(reference, scene):
    watch = InputWatch(reference)
    odd = lambda: changed(scene.request(), state=[9.0, 0.5, 0.5, 0.5])  # noqa: E731
    assert watch.look(odd()) == watch.look(odd()) == watch.look(scene.request()) == []
    assert [len(watch.look(odd())) for _ in range(SUSTAINED)] == [0] * (SUSTAINED - 1) + [1]
    assert watch.look(scene.request()) == []


def test_a_frozen_camera_is_noticed_while_the_joints_move(reference, scene):
    first = scene.request().images["cam_high"]
    found = raised(reference, scene, lambda r: changed(r, images={**r.images, "cam_high": first}), times=FROZEN + 1)
    assert list(found) == [("frozen_camera", "cam_high")]
    watch, still = InputWatch(reference), scene.request()
    assert [watch.look(still) for _ in range(3 * FROZEN)] == [[]] * 3 * FROZEN  # a robot that waits


def test_a_bundle_without_pictures_statistics_watches_the_joints_alone(statistics, bundle, scene):
    reference = Reference.of({"state": statistics["state"]}, CAMERAS, robot_of(bundle.robot))
    black = {name: np.zeros((96, 96, 3), np.uint8) for name in CAMERAS}
    found = raised(reference, scene, lambda r: changed(r, images=black, state=[9.0, 0.5, 0.5, 0.5]))
    assert list(found) == [("state_range", "waist")]


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (240, 320), (1080, 1920)])
def test_a_thumbnail_does_not_depend_on_the_size_of_the_picture(size):
    rows, columns = (np.linspace(0, 200, side) for side in size)
    picture = np.stack(np.broadcast_arrays(rows[:, None], columns[None], 7.0), -1).astype(np.uint8)
    expected = np.linspace(0, 200, 17)[1::2]
    found = thumbnail(picture)
    assert found.shape == (8, 8, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 3, 0], expected, atol=8)
    np.testing.assert_allclose(found[3, :, 1], expected, atol=8)
    np.testing.assert_array_equal(found[..., 2], 7)


class Bundle:
    digest = "d" * 64

    def __init__(self, statistics, bundle):
        self.preparation = type("Preparation", (), {"statistics": statistics})()
        self.contract = {**bundle.contract, "state": list(JOINTS), "action": list(JOINTS)}
        self.robot = robot_of(bundle.robot)


def test_alarms_are_counted_logged_once_and_kept_apart_by_robot(statistics, bundle, scene, caplog):
    metrics = Metrics()
    watches = Watches(metrics, limit=2)
    served = Served(bundle=Bundle(statistics, bundle), model_name="m", model_version="7")
    odd = lambda: changed(scene.request(), state=[9.0, 0.5, 0.5, 0.5])  # noqa: E731
    texts = [watches.look("robot-1", served, [odd()]) for _ in range(SUSTAINED + 2)]
    assert [bool(text) for text in texts] == [False, False, True, True, True]
    assert watches.look("robot-2", served, [odd()]) == []
    labels = {"version": "7", "alarm": "state_range", "input": "waist"}
    assert metrics.value("input_alarms", **labels) == 3
    assert caplog.text.count("input alarm state_range: waist is outside") == 1
    watches.look("robot-3", served, [scene.request()])  # over the limit: the oldest is forgotten
    assert watches.look("robot-1", served, [odd()]) == []


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_the_reply_tells_the_robot(start, slow_bundle, observation, robot, seconds):
    server = start(slow_bundle(seconds=seconds))
    odd = observation | {"observation.state": np.full(14, 40.0, dtype=np.float32)}
    with robot(server.host) as client:
        replies = [client.ask(odd) for _ in range(SUSTAINED)] + [client.ask(observation)]
    assert ["alarms" in reply for reply in replies] == [False] * (SUSTAINED - 1) + [True, False]
    assert "other units" in replies[SUSTAINED - 1]["alarms"][0]
    assert replies[SUSTAINED - 1]["actions"].shape == (10, 14)


def test_a_message_does_not_choose_whose_input_it_is(start, slow_bundle, observation, robot):
    """Each name would be another robot's, whose alarm never stands; the names would be kept, however long."""
    server = start(slow_bundle())
    odd = observation | {"observation.state": np.full(14, 40.0, dtype=np.float32)}
    with robot(server.host) as client:
        replies = [client.ask({**odd, "session_id": bytes([number]) * 100_000}) for number in range(SUSTAINED)]
    assert ["alarms" in reply for reply in replies] == [False] * (SUSTAINED - 1) + [True]


def test_the_model_begins_before_its_input_is_looked_at(start, slow_bundle, observation, robot, monkeypatch):
    model = slow_bundle()
    server, look, looks = start(model), Watches.look, []

    def noted(watches, *arguments):
        wait_for(lambda: len(model.seen) == len(looks) + 1, "the model's call")  # the look is on another thread
        looks.append(look(watches, *arguments))
        model.gate.set()
        return looks[-1]

    monkeypatch.setattr(Watches, "look", noted)
    with robot(server.host) as client:
        for _ in range(3):
            model.gate.clear()
            client.ask(observation)
    assert len(looks) == 3
