"""The client against servers that break: what it makes good, what it refuses, and what it says."""

import time
from contextlib import AbstractContextManager
from types import SimpleNamespace

import numpy as np
import pytest

from lingbot_client import (
    Backoff,
    BadActions,
    BadReply,
    Busy,
    ClientError,
    ContractMismatch,
    Needs,
    NoReply,
    NotAllowed,
    PolicyClient,
    Refused,
    ServerAway,
    VersionChanged,
    connection,
    observation,
)
from tests.components.endpoint.client.scripted_server import (
    CONTRACT,
    METADATA,
    Close,
    Silence,
    Vanish,
    chunk,
    good,
    scripted,
)
from tests.components.waiting import LONG, wait_for

QUICK = Backoff(first=0.01, most=0.05, patience=LONG)
LOOK = observation({"cam_high": np.zeros((32, 32, 3), np.uint8)}, np.zeros(2), "wave", seed=3)


def client(script, **options):
    return PolicyClient(script.url, **{"backoff": QUICK, **options})


def once(fault):
    """Answers well, but the first observation meets a fault."""
    met = []

    def answer(message, number):
        if "task" in message and not met:
            met.append(number)
            raise fault
        return good(message, number)

    return answer


def test_an_episode_is_a_reset_and_observations_with_one_name():
    with scripted() as script, client(script, key="secret") as robot:
        assert robot.contract["horizon"] == 4
        robot.reset("first")
        assert np.array_equal(robot.infer(LOOK)["actions"], chunk()) and robot.latency_ms > 0
        robot.reset()
        robot.infer(LOOK)
        names = [message["episode_id"] for message in script.messages]
        assert names[:2] == ["first", "first"] and names[2] == names[3] == robot.episode_id != "first"
        assert [message.get("reset") for message in script.messages] == [True, None, True, None]
        assert script.messages[1]["observation.state"].dtype == np.float32 and script.messages[1]["seed"] == 3
        assert script.handshakes[0]["Authorization"] == "Api-Key secret"


def test_a_server_of_plain_openpi_gets_no_keys_beyond_openpis():
    with scripted(metadata=lambda number: {}) as script, client(script) as robot:
        robot.reset()
        robot.infer(LOOK, deadline=1.0)
        assert [set(message) for message in script.messages] == [set(LOOK)]


@pytest.mark.parametrize("fault", [Vanish(), Close(1012, "restart"), Close(1001), Close(1013)])
def test_a_broken_connection_is_made_again_and_the_observation_sent_again(fault):
    with scripted(once(fault)) as script, client(script) as robot:
        robot.reset()
        assert np.array_equal(robot.infer(LOOK)["actions"], chunk())
        assert script.connections == 2 and robot.reconnects == 1
        first, second = (message for message in script.messages if "task" in message)
        assert first["episode_id"] == second["episode_id"] and first["seed"] == second["seed"]


def test_a_server_that_is_leaving_is_left_between_episodes():
    def answer(message, number):
        return {**good(message, number), "draining": number == 2}

    with scripted(answer) as script, client(script) as robot:
        robot.reset()
        for _ in range(2):
            robot.infer(LOOK)
        assert script.connections == 1, "not within the episode, and not after a reply without the word"
        robot.reset()
        assert script.connections == 1
    with scripted(lambda message, number: {**good(message, number), "draining": True}) as script:
        with client(script) as robot:
            robot.infer(LOOK)
            robot.reset("next")
            assert script.connections == 2 and script.messages[-1]["episode_id"] == "next"


@pytest.mark.parametrize("code", [1002, 1007, 1009, 1011])
def test_a_close_that_the_message_caused_is_not_tried_again(code):
    with scripted(once(Close(code, "too big"))) as script, client(script) as robot:
        with pytest.raises(Refused, match=f"code {code}: too big"):
            robot.infer(LOOK)
        assert robot.infer(LOOK)["actions"].shape == (4, 2), "and the next observation gets a new connection"
        assert script.connections == 2


def test_a_server_that_drops_every_message_is_given_up():
    def answer(message, number):
        raise Vanish

    with scripted(answer) as script, client(script) as robot:
        with pytest.raises(ServerAway, match="dropped the connection 5 times over one message"):
            robot.infer(LOOK)
        assert script.connections == 5


def test_a_server_that_comes_back_is_found():
    with scripted() as script:
        robot = client(script)
        robot.infer(LOOK)
    with scripted(port=script.port) as again:
        robot.infer(LOOK)
        assert len(again.messages) == 1
        robot.close()


def test_a_server_that_stays_away_is_said_after_the_patience(monkeypatch):
    with scripted() as script:
        robot = PolicyClient(script.url, backoff=Backoff(first=0.01, most=0.05, patience=0.3))
    slept = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append, perf_counter=time.perf_counter)
    monkeypatch.setattr("lingbot_client.client.time", clock)
    with pytest.raises(ServerAway, match="ConnectionRefusedError.*check the address"):
        robot.infer(LOOK)
    assert 0.25 <= sum(slept) <= 0.3


def test_a_handshake_that_is_refused_for_now_waits_as_long_as_it_is_told():
    with scripted() as script:
        script.deny = [(503, {"Retry-After": "0.2"}, "warming up"), (429, {}, "slow down")]
        started = time.monotonic()
        with client(script) as robot:
            assert time.monotonic() - started > 0.2
            assert robot.infer(LOOK)["model_version"] == "1"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(401, NotAllowed, "give the key"), (403, NotAllowed, "give the key"), (404, ClientError, "HTTP 404")],
)
def test_a_handshake_that_is_refused_for_good_is_not_tried_again(status, error, words):
    with scripted() as script:
        script.deny = [(status, {}, "no")] * 2
        with pytest.raises(error, match=words):
            client(script)
        assert len(script.deny) == 1


def test_an_answer_that_does_not_come_ends_the_wait_and_the_connection():
    with scripted(once(Silence())) as script, client(script, reply_seconds=0.2) as robot:
        with pytest.raises(NoReply, match=r"no reply within 0\.2 s"):
            robot.infer(LOOK)
        wait_for(lambda: script.messages, "the first one to arrive")
        robot._reply_seconds = LONG
        robot.infer(LOOK)
        assert script.connections == 2, "a late reply must not be taken for the next one's"


def test_after_an_interruption_an_answer_is_not_taken_for_that_to_the_next_question():
    with scripted() as script, client(script) as robot:
        robot.reset()
        receive = robot._connection._socket.recv

        def interrupted(timeout):
            receive(timeout)  # it came, and nobody has it
            raise KeyboardInterrupt

        robot._connection._socket.recv = interrupted
        with pytest.raises(KeyboardInterrupt):
            robot.infer(LOOK)
        assert robot._connection is None
        robot.infer(LOOK)
        assert script.connections == 2


def test_the_first_frame_has_what_the_handshake_left_of_the_time(monkeypatch):
    waited, seconds = [], iter([0.0, 4.0])
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: next(seconds)))

    class Socket(AbstractContextManager):
        def recv(self, timeout):
            waited.append(timeout)
            raise TimeoutError

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(connection, "connect", lambda *arguments, **options: Socket())
    with pytest.raises(connection.Lost):
        connection.Address("ws://e:1").open(10.0)
    assert waited == [6.0]


def test_a_deadline_is_told_to_the_server_and_kept():
    with scripted(once(Silence())) as script, client(script, reply_seconds=LONG) as robot:
        started = time.monotonic()
        with pytest.raises(NoReply):
            robot.infer(LOOK, deadline=0.2)
        assert time.monotonic() - started < LONG
        wait_for(lambda: script.messages, "what was asked to arrive")
        assert script.messages[0]["deadline_ms"] == 200


def test_a_deadline_ends_the_attempts_to_connect():
    with scripted() as script:
        robot = client(script)
    started = time.monotonic()
    with pytest.raises(ServerAway):
        robot.infer(LOOK, deadline=0.2)
    assert time.monotonic() - started < QUICK.patience


def test_another_version_within_an_episode_is_not_given_out():
    def answer(message, number):
        return {**good(message, number), "bundle_digest": f"digest-{1 + (number > 2)}"}

    with scripted(answer) as script, client(script) as robot:
        robot.reset()
        robot.infer(LOOK)
        with pytest.raises(VersionChanged, match="began with bundle digest-1, the answer is of digest-2"):
            robot.infer(LOOK)
        robot.reset()
        assert robot.infer(LOOK)["bundle_digest"] == "digest-2", "a new episode may have another version"


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(robot="three_joints"), "its robot is two_joints, the robot's three_joints"),
        (Needs(cameras=("cam_low",)), "wants the cameras cam_high, the robot has cam_low"),
        (Needs(state=("right", "left")), "value 0 of its state is left, the robot's is right"),
        (Needs(action=("left",)), "its action has 2 values, the robot's 1"),
        (Needs(control_hz=50.0), "its control hz is 10.0, the robot's 50.0"),
        (Needs(horizon=5), "its chunks have 4 steps, the robot needs 5"),
        (Needs(normalization_digest="n2"), "its normalization digest is n1"),
        (Needs(bundle_digest="digest-9"), "it is bundle digest-1, wanted is digest-9"),
    ],
)
def test_a_policy_for_another_robot_is_refused(needs, words):
    with scripted() as script, pytest.raises(ContractMismatch, match=words):
        client(script, needs=needs)


def test_a_policy_for_this_robot_is_taken():
    needs = Needs(
        robot="two_joints", cameras=("cam_high", "cam_low"), state=("left", "right"), action=("left", "right"),
        control_hz=10.0, horizon=4, normalization_digest="n1", bundle_digest="digest-1",
    )  # fmt: skip
    with scripted() as script, client(script, needs=needs) as robot:
        robot.infer(LOOK)


def test_a_server_without_a_contract_cannot_be_checked():
    with scripted(metadata=lambda number: {}) as script, pytest.raises(ContractMismatch, match="does not tell"):
        client(script, needs=Needs(robot="two_joints"))


def test_the_contract_is_checked_again_at_a_new_connection():
    served = {**METADATA, "contract": {**CONTRACT, "action": ["right", "left"]}}
    with scripted(once(Vanish()), metadata=lambda number: METADATA if number == 1 else served) as script:
        with client(script, needs=Needs(action=("left", "right"))) as robot:
            with pytest.raises(ContractMismatch, match="value 0 of its action is right"):
                robot.infer(LOOK)
        assert len(script.messages) == 1, "nothing was asked of it"


def test_a_sentence_is_raised_and_the_connection_stays():
    answers = iter(["the state is missing", "16 requests wait for the model already: ask again in 2 s"])
    with scripted(lambda message, number: next(answers, None) or good(message, number)) as script:
        with client(script) as robot:
            with pytest.raises(Refused, match="the state is missing") as refusal:
                robot.infer(LOOK)
            assert not isinstance(refusal.value, Busy)
            with pytest.raises(Busy) as busy:
                robot.infer(LOOK)
            assert busy.value.seconds == 2
            robot.infer(LOOK)
        assert script.connections == 1


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (np.zeros((4, 3), np.float32), r"shape \(4, 3\), not \(steps, 2\)"),
        (np.zeros((0, 2), np.float32), r"shape \(0, 2\)"),
        (np.full((4, 2), np.nan, np.float32), "8 of the reply's actions are not finite"),
        (None, r"shape \(\)"),
    ],
)
def test_actions_that_cannot_be_executed_are_refused(actions, words):
    with scripted(lambda message, number: {"actions": actions}) as script, client(script) as robot:
        with pytest.raises(BadActions, match=words):
            robot.infer(LOOK)


@pytest.mark.parametrize("frame", [b"\xc1", b"\x93\x01", b"\x81\xc4\x0b__ndarray__\xc3"])
def test_a_reply_that_is_no_message_is_refused(frame):
    with scripted(lambda message, number: frame) as script, client(script) as robot:
        with pytest.raises(BadReply):
            robot.infer(LOOK)


def test_a_server_that_is_none_for_robots_is_refused():
    with scripted(metadata=lambda number: "hello") as script, pytest.raises(BadReply, match="no endpoint for robots"):
        client(script)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "ws://"])
def test_an_address_that_is_none_is_said(url):
    with pytest.raises(ValueError, match="write ws://HOST:PORT"):
        PolicyClient(url)


def test_an_http_address_is_taken_for_the_websocket_behind_it():
    with scripted() as script, PolicyClient(script.url.replace("ws://", "http://"), backoff=QUICK) as robot:
        robot.infer(LOOK)


@pytest.mark.parametrize("key", ["lbk_secret\n", "lbk secret", "schl\u00fcssel"])
def test_a_key_that_cannot_be_one_is_said_at_once_and_not_shown(key):
    with pytest.raises(ValueError, match="as `lingbot keys add` printed it") as error:
        PolicyClient("ws://127.0.0.1:1", key=key)
    assert key.strip() not in str(error.value)


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf")])
def test_a_deadline_is_a_time_from_now(deadline):
    with scripted() as script, client(script) as robot:
        with pytest.raises(ValueError, match="over 0"):
            robot.infer(LOOK, deadline=deadline)
        assert script.messages == []


def test_a_server_that_goes_within_the_handshake_of_tls_is_looked_for_again():
    with scripted() as script, pytest.raises(ServerAway, match="cannot be reached"):
        PolicyClient(script.url.replace("ws://", "wss://"), backoff=Backoff(first=0.01, most=0.05, patience=0.2))
