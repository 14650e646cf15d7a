"""When an episode begins and ends, and that it keeps the version that it began with."""

from types import SimpleNamespace

import numpy as np
import pytest

from components.endpoint.errors import BadObservation, Unavailable
from components.endpoint.routing import CANARY, CHAMPION, Routes, draw
from components.endpoint.sessions import MAX_NAMED, SILENCE_SECONDS, SessionTable

OLD, NEW = SimpleNamespace(model_version="1"), SimpleNamespace(model_version="2")
BEFORE, AFTER = Routes(champion=OLD), Routes(champion=NEW)


@pytest.fixture
def session():
    return SessionTable().open()


def observe(session, message, routes, now=None):
    """As the service does: the version that answers."""
    now = session.last_heard if now is None else now
    episode = session.continued(message, routes, now)
    episode.observations += 1
    session.last_heard = now
    return episode.served


def test_an_episode_keeps_its_version_through_a_swap(session):
    assert observe(session, {"episode_id": "a"}, BEFORE) is OLD
    assert observe(session, {"episode_id": "a"}, AFTER) is OLD
    assert observe(session, {}, AFTER) is OLD  # an observation need not repeat the id


@pytest.mark.parametrize("message", [{"episode_id": "b"}, {"episode_id": 2}, {"episode_id": np.int64(2)}])
def test_a_new_id_is_a_new_episode(session, message):
    observe(session, {"episode_id": "a"}, BEFORE)
    assert observe(session, message, AFTER) is NEW
    assert session.episode_id == str(message["episode_id"])


def test_a_reset_is_a_new_episode_and_may_be_named_by_its_first_observation(session):
    observe(session, {"episode_id": "a"}, BEFORE)
    assert session.begin({}, AFTER).served is NEW
    assert observe(session, {"episode_id": "b"}, BEFORE) is NEW  # named now, no further episode
    assert session.episode_id == "b"
    assert observe(session, {"episode_id": "c"}, BEFORE) is OLD


def test_silence_ends_an_episode_but_not_while_an_answer_is_owed(session):
    observe(session, {"episode_id": "a"}, BEFORE, now=100.0)
    assert observe(session, {"episode_id": "a"}, AFTER, now=100.0 + SILENCE_SECONDS) is OLD
    session.pending = 1
    assert observe(session, {"episode_id": "a"}, AFTER, now=200.0) is OLD
    session.pending = 0
    assert observe(session, {"episode_id": "a"}, AFTER, now=231.0) is NEW


def test_silent_sessions_let_go_of_their_version():
    table = SessionTable()
    quiet, loud = table.open(), table.open()
    named = table.of_request({"session_id": "s"}, "key")
    for session, heard in ((quiet, 0.0), (loud, 90.0), (named, 0.0)):
        observe(session, {}, BEFORE, now=heard)
    table.release_silent(100.0)
    assert quiet.episode is None and loud.episode is not None and len(table) == 2
    assert table.of_request({"session_id": "s"}, "key") is not named
    table.close(loud)
    assert loud.episode is None and len(table) == 2


def test_requests_over_http_share_a_session_by_id_and_client():
    table = SessionTable()
    one = table.of_request({"session_id": "s"}, "key a")
    assert table.of_request({"session_id": "s"}, "key a") is one
    assert table.of_request({"session_id": "s"}, "key b") is not one
    assert table.of_request({}, "key a") is not table.of_request({}, "key a")
    assert len(table) == 2  # the nameless are not kept
    for number in range(MAX_NAMED - 2):
        table.of_request({"session_id": number}, "key a")
    with pytest.raises(Unavailable, match="sessions are open"):
        table.of_request({"session_id": "more"}, "key a")


@pytest.mark.parametrize("bad", ["", "x" * 129, "a\nb", 1.5, True, ["a"], {}])
def test_an_id_is_a_short_text_or_a_number(session, bad):
    with pytest.raises(BadObservation, match="episode_id"):
        session.begin({"episode_id": bad}, BEFORE)


def test_a_canary_gets_its_share_of_new_episodes_and_keeps_them(session):
    routes = Routes(champion=OLD, canary=NEW, share=0.25)
    drawn = [routes.of_episode(f"robot/{number}") for number in range(4000)]
    assert {route for _, route in drawn} == {CHAMPION, CANARY}
    share = sum(served is NEW for served, _ in drawn) / len(drawn)
    assert abs(share - 0.25) < 0.03  # 4 standard deviations
    assert [routes.of_episode(f"robot/{number}") for number in range(4000)] == drawn
    name = next(str(n) for n in range(100) if draw(f"{session.id}/{n}") < 0.25)
    assert observe(session, {"episode_id": name}, routes) is NEW
    assert observe(session, {"episode_id": name}, BEFORE) is NEW  # also when the canary ends


@pytest.mark.parametrize(("share", "served"), [(0.0, OLD), (1.0, NEW)])
def test_the_ends_of_the_share(share, served):
    routes = Routes(champion=OLD, canary=NEW, share=share)
    assert {routes.of_episode(str(number))[0].model_version for number in range(200)} == {served.model_version}
