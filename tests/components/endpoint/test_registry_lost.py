"""Serve, lose the registry, restart: on a real registry, and at full size with server processes and a robot."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import asyncio

import numpy as np
import pytest

from components.adapters import tracking
from components.endpoint.check import running_server
from components.endpoint.last_served import recall, remember
from components.endpoint.resolve import resolve
from components.endpoint.sample import sample_observation
from components.endpoint.service import Service
from components.endpoint.swapping import Follower
from components.promote.gate import load_policy
from components.promote.moves import promote
from components.promote.verdicts import judge
from lingbot_client import PolicyClient
from tests.components.waiting import LONG
from tests.registry_house import bundles, evaluation, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"
ALIAS = ["--alias", "champion", "--poll-seconds", "0.1"]


@pytest.fixture
def registry(home, bundles, tmp_path):
    """Two versions, the first of them promoted; `lose()` and `find()` the registry."""
    for number in (0, 1):
        register(tmp_path / str(number), bundles[number], evaluation(bundles[number].digest, successes=80 + number))
    promote_version("1")
    return Registry(home)


class Registry:
    """Its file is overwritten in place: a connection that stands meets that too."""

    def __init__(self, home):
        self._file, self._content = home / "mlflow.db", b""

    def lose(self):
        self._content = self._file.read_bytes()
        self._file.write_bytes(b"no database " * (len(self._content) // 12))
        with pytest.raises(tracking.RegistryUnavailable):
            tracking.list_models()

    def find(self):
        self._file.write_bytes(self._content)


def promote_version(version):
    found = tracking.get_version(MODEL, version)
    promote(found, "champion", judge(found, "champion", load_policy()))


def test_a_server_starts_without_the_registry_and_follows_it_when_it_is_back(registry, bundles):
    message = {**sample_observation(bundles[0].contract), "seed": 3}

    def life(after_first_look):
        """A process: it resolves, follows, answers, and ends."""

        async def go():
            served = resolve(bundle=None, alias="champion", model="")
            service = Service(served)
            await service.warm_up()
            follower = Follower(service, model=MODEL, alias="champion", remember=remember)
            await follower.look()
            first = await service.answer(message, service.sessions.open())
            after_first_look()
            await follower.look()
            last = await service.answer(message, service.sessions.open())
            service.runner.close()
            return served.remembered, first, last

        return asyncio.run(asyncio.wait_for(go(), LONG))

    def back():
        registry.find()
        promote_version("2")

    remembered, before, lost = life(registry.lose)
    assert remembered is None and (before["model_version"], lost["model_version"]) == ("1", "1")
    remembered, away, found = life(back)
    assert remembered and (away["model_version"], away["bundle_digest"]) == ("1", bundles[0].digest)
    np.testing.assert_array_equal(away["actions"], before["actions"])
    assert (found["model_version"], found["bundle_digest"]) == ("2", bundles[1].digest)
    assert recall(MODEL, "champion").version == "2", "the next start without it is on that one"


@pytest.mark.soak  # two server processes
def test_server_processes_do_so_under_a_robot(registry, bundles):
    message = {**sample_observation(bundles[0].contract), "seed": 3}

    def ask(client):
        client.reset()
        return client.infer(message)

    with running_server(ALIAS) as (address, _), PolicyClient(f"ws://{address}") as client:
        before = ask(client)
        while recall(MODEL, "champion") is None:
            before = ask(client)
        registry.lose()
        assert [ask(client)["model_version"] for _ in range(5)] == ["1"] * 5
    with running_server(ALIAS) as (address, _), PolicyClient(f"ws://{address}") as client:
        away = ask(client)
        assert (away["model_version"], away["bundle_digest"]) == ("1", before["bundle_digest"])
        np.testing.assert_array_equal(away["actions"], before["actions"])
        registry.find()
        promote_version("2")
        while ask(client)["model_version"] != "2":
            pass
