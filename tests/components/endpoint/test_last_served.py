"""A start while the registry is away: on what this machine served last, its bytes checked, and said."""

import asyncio
import json
import shutil

import pytest

from components import routing_state
from components.adapters import tracking
from components.bundles import bundle_folder
from components.endpoint.last_served import recall, remember
from components.endpoint.resolve import resolve
from components.endpoint.service import Service
from components.endpoint.swapping import Follower
from components.routing_state import NotPromoted, Routing, RoutingUnavailable, Target
from model.errors import UserError

MODEL = "lingbot-vla-aloha_sim"
AWAY = "the registry sqlite:///away refused or cannot be reached: nobody is there"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@registry")
    monkeypatch.delenv("LINGBOT_STORAGE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def away(monkeypatch):
    """`away(error)`: what asking the registry raises, from now on."""

    def go(error=None):
        def fail(*_):
            raise error or RoutingUnavailable(AWAY)

        def nobody():
            raise tracking.RegistryUnavailable(AWAY)

        monkeypatch.setattr(routing_state, "read_routing", fail)
        monkeypatch.setattr(tracking, "only_model", nobody)

    return go


@pytest.fixture
def served_once(bundle):
    """The bundle lies where registered ones do, and was served here as version 7."""
    shutil.copytree(bundle.path, bundle_folder(bundle.digest))
    target = Target(version="7", uri=bundle_folder(bundle.digest).as_uri(), digest=bundle.digest)
    remember(MODEL, "champion", target)
    return target


@pytest.mark.parametrize("model", ["", MODEL])
def test_the_version_that_was_served_last_is_served_and_says_so(away, served_once, caplog, model):
    away()
    served = resolve(bundle=None, alias="champion", model=model)
    assert (served.model_name, served.model_version, served.digest) == (MODEL, "7", served_once.digest)
    assert served.remembered and served.alias == "champion"
    assert "cannot be reached" in caplog.text and "version 7, which was served here last" in caplog.text


def test_bytes_that_are_not_those_of_the_record_are_refused(away, served_once):
    away()
    weights = bundle_folder(served_once.digest) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        resolve(bundle=None, alias="champion", model="")


@pytest.mark.parametrize("alias,model,uri", [("other", "", None), ("champion", "other", None), ("champion", "", "x")])
def test_another_alias_model_or_registry_is_another_matter(away, served_once, monkeypatch, alias, model, uri):
    away()
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=f"cannot be reached.*has served no '{alias}' before: serve a folder"):
        resolve(bundle=None, alias=alias, model=model)


def test_a_registry_that_answers_decides(away, served_once):
    """Who took the alias away did mean it: what was served last is for a registry that is silent."""
    away(NotPromoted("model has no alias 'champion'"))
    with pytest.raises(UserError, match="no alias"):
        resolve(bundle=None, alias="champion", model=MODEL)


def test_several_models_want_a_name(away, served_once):
    away()
    remember("lingbot-vla-other", "champion", served_once)
    with pytest.raises(UserError, match=f"--model: .*{MODEL}"):
        resolve(bundle=None, alias="champion", model="")
    assert resolve(bundle=None, alias="champion", model=MODEL).model_version == "7"


def test_no_password_is_kept_and_a_newer_record_is_not_read(home, served_once):
    (path,) = (home / "served").glob("*.json")
    assert "secret" not in path.read_text() + path.name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(UserError, match="schema_version 2, this code reads 1: update it$"):
        recall("", "champion")
    path.write_text("[]")
    with pytest.raises(UserError, match="delete it"):
        recall("", "champion")


def test_the_follower_keeps_each_champion_once_it_serves(make_service, bundle, slow_bundle):
    kept, second = [], slow_bundle()
    second.digest = "2" * 64

    def load(model, alias, target):
        return make_service(second).served

    async def scenario():
        service: Service = make_service(bundle)
        says = [Target(version="7", uri="u", digest=bundle.digest)] * 2 + [
            Target(version="8", uri="v", digest="2" * 64)
        ]
        follower = Follower(
            service,
            model=MODEL,
            alias="champion",
            read=lambda model, alias: Routing(model=model, alias=alias, champion=says.pop(0)),
            load=load,
            remember=lambda model, alias, target: kept.append((model, alias, target.version, service.served.digest)),
        )
        for _ in range(3):
            await follower.look()
        service.runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert kept == [(MODEL, "champion", "7", bundle.digest), (MODEL, "champion", "8", "2" * 64)]
