"""Following the alias under robots: what is swapped in, what is refused, and what is left alone."""

import asyncio
import gc
import logging
import weakref

import numpy as np
import pytest

from components.endpoint.served import Served
from components.endpoint.service import Service
from components.endpoint.swapping import Follower
from components.routing_state import NotPromoted, Routing, RoutingUnavailable, Target
from model.errors import UserError
from tests.components.waiting import LONG, turn_until


def target(version):
    return Target(version=version, uri=f"file:///bundles/{version}", digest=version * 64)


class House:
    """A service and its follower; `says` is what the registry answers, or the error that it raises."""

    def __init__(self, slow_bundle):
        self.slow_bundle = slow_bundle
        self.faults, self.loads, self.rehearsed, self.asked = {}, [], [], 0
        self.service = Service(self.load("lingbot-vla-test", "champion", target("1")))
        self.says = Routing(model="lingbot-vla-test", alias="champion", champion=target("1"))
        self.follower = Follower(
            self.service, model="lingbot-vla-test", alias="champion", read=self.read, load=self.load, poll_seconds=0.01
        )
        self.loads.clear()

    def read(self, model, alias):
        said, self.asked = self.says, self.asked + 1
        if isinstance(said, Exception):
            raise said
        return said

    def load(self, model, alias, target):
        self.loads.append(target.version)
        fault = self.faults.get(target.version)
        if fault == "damaged":
            raise UserError("bundle is damaged: model.safetensors has other bytes than the manifest says")
        bundle = self.slow_bundle()
        bundle.digest = target.digest
        bundle.answer = np.full(bundle.shape, 0.1 * int(target.version), dtype=np.float32)
        bundle.self_test = lambda: self.rehearse(target.version, fault)
        if fault == "contract":
            bundle.contract = {**bundle.contract, "control_hz": 1.0}
        return Served(bundle=bundle, model_name=model, model_version=target.version, alias=alias)

    def rehearse(self, version, fault):
        self.rehearsed.append(version)
        if fault == "golden":
            raise UserError("the golden observation gives actions that differ by 3.00e-01")
        return 0.0

    def promote(self, version, **others):
        self.says = Routing(model="lingbot-vla-test", alias="champion", champion=target(version), **others)


@pytest.fixture
def run(slow_bundle):
    def go(scenario):
        async def main():
            house = House(slow_bundle)
            try:
                await scenario(house)
            finally:
                house.service.runner.close()

        asyncio.run(asyncio.wait_for(main(), LONG))

    return go


def test_a_promotion_is_rehearsed_and_swapped_and_running_episodes_keep_theirs(run, observation):
    async def scenario(house):
        service = house.service
        running, idle = service.sessions.open(), service.sessions.open()
        before = await service.answer({**observation, "episode_id": "a"}, running)
        old = weakref.ref(service.served)
        house.promote("2")
        await house.follower.look()
        assert house.rehearsed == ["2"] and house.loads == ["2"]
        assert (await service.answer(observation, running))["model_version"] == before["model_version"] == "1"
        new = await service.answer(observation, idle)
        assert new["model_version"] == "2" and new["bundle_digest"] == "2" * 64
        np.testing.assert_allclose(new["actions"], 0.2)
        assert old() is not None
        assert (await service.answer({**observation, "episode_id": "b"}, running))["model_version"] == "2"
        gc.collect()
        assert old() is None  # the last episode let go of it
        await house.follower.look()
        assert house.loads == ["2"]
        assert service.metrics.value("swaps", result="swapped") == 1

    run(scenario)


def test_what_was_accepted_before_a_swap_is_answered_by_the_old_version(run, observation):
    async def scenario(house):
        house.service.served.bundle.seconds = 0.3
        asking = asyncio.create_task(house.service.answer(observation, house.service.sessions.open()))
        await asyncio.sleep(0)
        house.promote("2")
        looking = asyncio.create_task(house.follower.look())
        assert (await asking)["model_version"] == "1"
        await looking
        assert house.service.served.model_version == "2"

    run(scenario)


@pytest.mark.parametrize(
    ("fault", "words"), [("damaged", "other bytes"), ("golden", "golden observation"), ("contract", "control_hz")]
)
def test_a_bad_bundle_is_refused_and_the_old_one_serves_on(run, observation, caplog, fault, words):
    async def scenario(house):
        house.faults["2"] = fault
        house.promote("2", canary=target("3"), share=1.0)
        for _ in range(3):
            await house.follower.look()
        assert house.loads == ["2"]  # tried again later, not at every poll
        reply = await house.service.answer(observation, house.service.sessions.open())
        assert reply["model_version"] == "1"
        assert words in house.follower.status()["refused"]["2"] and words in caplog.text
        assert house.service.metrics.value("swaps", result="refused") == 1
        house.follower._refusals["2", "2" * 64].again_at = 0.0
        house.faults.clear()
        await house.follower.look()
        assert house.service.served.model_version == "2" and house.follower.status()["refused"] == {}

    run(scenario)


@pytest.mark.parametrize("error", [RoutingUnavailable("the registry is away"), NotPromoted("nobody holds the alias")])
def test_the_registry_going_away_changes_nothing_and_is_said_once(run, observation, caplog, error):
    async def scenario(house):
        house.says = error
        for _ in range(3):
            await house.follower.look()
        assert (await house.service.answer(observation, house.service.sessions.open()))["model_version"] == "1"
        said = [record for record in caplog.records if str(error) in record.message]
        assert len(said) == 1 and said[0].levelno == logging.ERROR
        house.promote("2")
        await house.follower.look()
        assert house.service.served.model_version == "2"

    run(scenario)


def test_beside_a_champion_that_is_refused_who_was_ended_gets_no_episode_more(run, observation):
    async def scenario(house):
        house.promote("1", canary=target("2"), share=1.0, shadow=target("3"))
        await house.follower.look()
        house.faults["4"] = "damaged"
        house.promote("4", shadow=target("3"))  # the alias has moved, and the canary has ended with that
        await house.follower.look()
        reply = await house.service.answer(observation, house.service.sessions.open())
        assert (reply["model_version"], reply["route"]) == ("1", "champion")
        assert house.service.routes.shadow.model_version == "3"
        house.promote("4", canary=target("5"), share=1.0)
        await house.follower.look()
        assert house.service.routes.canary is None and house.service.routes.shadow is None

    run(scenario)


def test_a_version_that_breaks_in_a_way_nobody_foresaw_is_not_fetched_at_every_poll(run, caplog):
    async def scenario(house):
        load, loads = house.follower._load, []

        def full(model, alias, target):
            loads.append(target.version)
            raise OSError(28, "No space left on device")

        house.follower._load = full
        house.promote("2")
        for _ in range(3):
            await house.follower.look()
        assert loads == ["2"] and "OSError: [Errno 28]" in house.follower.status()["refused"]["2"]
        assert caplog.records[-1].exc_info is not None  # nobody foresaw it: where it broke is told
        house.follower._load = load
        house.follower._refusals["2", "2" * 64].again_at = 0.0
        await house.follower.look()
        assert house.service.served.model_version == "2"

    run(scenario)


def test_what_was_reported_is_not_held_in_memory(run):
    """While the record cannot be kept, of a version that has left only what was written stays."""

    async def scenario(house):
        follower, kept = house.follower, []
        follower._endpoint, follower._report = "e", kept.append
        await follower._report_serving()
        old = weakref.ref(house.service.served)

        def away(serving):
            raise UserError("the record cannot be kept")

        follower._report = away
        house.promote("2")
        await follower.look()
        await follower._report_serving()
        gc.collect()
        assert old() is None and [serving.version for serving in kept] == ["1"]
        follower._report = kept.append
        for _ in range(3):
            await follower._report_serving()
        assert [serving.version for serving in kept] == ["1", "2"]

    run(scenario)


def test_two_things_that_are_away_are_each_said_once(run, caplog):
    """A registry that is away takes the record of what is served with it."""

    async def scenario(house):
        house.says, asked = RoutingUnavailable("the registry is away"), []

        def report(serving):
            asked.append(serving)
            raise UserError("the record cannot be kept")

        follower = Follower(
            house.service, model="m", alias="champion", read=house.read, poll_seconds=0.01, endpoint="e", report=report
        )
        following = asyncio.create_task(follower.run())
        await turn_until(lambda: len(asked) >= 4, "four polls")
        following.cancel()
        said = [record.message for record in caplog.records]
        assert said == ["the registry is away; version 1 is served on", "the record cannot be kept"]

    run(scenario)


def test_following_survives_what_nobody_foresaw(run, caplog):
    async def scenario(house):
        house.says = ZeroDivisionError("a bug of the registry's client")
        following = asyncio.create_task(house.follower.run())
        await turn_until(lambda: "a bug of the registry's client" in caplog.text, "the fault")
        house.promote("2")
        await turn_until(lambda: house.service.served.model_version == "2", "the swap")
        assert not following.done() and house.service.metrics.value("swaps", result="failed") >= 1
        following.cancel()

    run(scenario)


def test_a_hint_makes_it_look_at_once(run):
    async def scenario(house):
        house.follower._poll_seconds = 600.0
        following = asyncio.create_task(house.follower.run())
        await turn_until(lambda: house.asked, "the first look")
        house.promote("2")
        house.follower.look_now()
        await turn_until(lambda: house.service.served.model_version == "2", "the swap")
        following.cancel()

    run(scenario)


def test_a_canary_answers_its_share_and_is_not_loaded_again_when_it_is_promoted(run, observation):
    async def scenario(house):
        service = house.service
        house.promote("1", canary=target("2"), share=0.5)
        await house.follower.look()
        session = service.sessions.open()
        routes = [await service.answer({**observation, "episode_id": number}, session) for number in range(40)]
        assert {(reply["route"], reply["model_version"]) for reply in routes} == {("champion", "1"), ("canary", "2")}
        assert service.metrics.value("canary_share") == 0.5
        await service.answer({**observation, "episode_id": "kept"}, session)
        house.promote("2")
        await house.follower.look()
        assert house.loads == ["2"] and service.routes.canary is None
        assert service.metrics.value("canary_share") == 0

    run(scenario)


def test_a_bad_canary_gets_nothing_and_the_champion_answers(run, observation):
    async def scenario(house):
        house.faults["2"] = "golden"
        house.promote("3", canary=target("2"), share=1.0)
        await house.follower.look()
        reply = await house.service.answer(observation, house.service.sessions.open())
        assert (reply["model_version"], reply["route"]) == ("3", "champion")

    run(scenario)


def compared_of(service):
    return service.metrics.value("shadow", version="2", result="compared")


def test_a_shadow_is_compared_and_never_sent(run, observation):
    async def scenario(house):
        service = house.service
        house.promote("1", shadow=target("2"))
        await house.follower.look()
        session = service.sessions.open()
        for number in range(1, 4):
            assert (await service.answer(observation, session))["model_version"] == "1"
            compared = lambda number=number: compared_of(service) == number  # noqa: E731
            await turn_until(compared, "the shadow, which runs once no robot waits")
        found = service.shadowing.divergence["2"]
        assert found.compared == 3
        assert found.largest == pytest.approx(0.1, abs=1e-6) and found.mean == pytest.approx(0.1, abs=1e-6)
        assert compared_of(service) == 3

    run(scenario)


def test_a_failing_shadow_harms_nobody(run, observation, caplog):
    async def scenario(house):
        house.promote("1", shadow=target("2"))
        await house.follower.look()
        house.service.routes.shadow.bundle.answer = np.full((10, 14), np.nan, dtype=np.float32)
        session = house.service.sessions.open()
        assert (await house.service.answer(observation, session))["model_version"] == "1"
        failed = lambda: house.service.metrics.value("shadow", version="2", result="failed")  # noqa: E731
        await turn_until(failed, "the shadow")
        assert "not finite" in caplog.text
        assert (await house.service.answer(observation, session))["model_version"] == "1"

    run(scenario)
