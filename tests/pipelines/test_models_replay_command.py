"""`lingbot models replay` on a real registry: the report is kept with the version, and a gate reads it."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import asyncio
import json

import pytest

from components.adapters import tracking
from components.endpoint.metrics import Metrics
from components.endpoint.recording import Recorder
from components.endpoint.sample import sample_observation
from components.endpoint.served import Served
from components.endpoint.service import Service
from components.promote.evidence import gather
from components.promote.gate import Policy, judge_inputs
from components.promote.replays import replay_of
from components.promote.verdicts import judge, standing_verdict
from model.errors import UserError
from pipelines.cli import main
from tests.registry_house import bundles, evaluation, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"


@pytest.fixture
def traffic(bundles, tmp_path):
    """Four looks that the first bundle answered."""
    service = Service(Served(bundle=bundles[0], model_name=MODEL, model_version="1"))
    service.recorder = Recorder(tmp_path / "traffic", service.metadata, share=1.0, max_bytes=2**28, metrics=Metrics())

    async def ask():
        session = service.sessions.open()
        for seed in range(4):
            await service.answer(sample_observation(bundles[0].contract, seed), session)

    asyncio.run(ask())
    service.runner.close()
    service.recorder.close()
    return str(tmp_path / "traffic")


def test_a_candidate_is_replayed_kept_and_judged_by_it(home, bundles, traffic, tmp_path, capsys):
    register(tmp_path / "a", bundles[1], evaluation(bundles[1].digest, successes=80))
    asks = Policy(min_replay_looks=4, max_replay_divergence=100.0)

    def version():
        return tracking.get_version(MODEL, "1")

    before = judge(version(), "champion", asks)
    assert not before.promote and before.reasons == ("no recorded traffic was replayed through it",)

    output = tmp_path / "replayed"
    assert main(["models", "replay", traffic, "--candidate", "1", "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "version 1 differs from what 4 recorded looks" in said and "kept with version 1" in said
    report = json.loads((output / "replay.json").read_text())
    assert report["divergence"]["mean"] > 0.01 and report["candidate"]["bundle_digest"] == bundles[1].digest
    assert json.loads(replay_of(version())) == report
    page = (output / "replay.html").read_text()
    assert bundles[1].digest in page and "<svg" in page and "left_waist" in page and "http" not in page

    assert standing_verdict(version(), "champion").promote, "the replay came since: the gate is asked again"
    strict = judge_inputs(gather(version(), "champion"), Policy(max_replay_divergence=0.001))
    assert not strict.promote and "replay divergence" in strict.reasons[0]

    digest = version().tags["replay_digest"]
    (home / "replays" / f"{digest}.json").write_text("{}")
    with pytest.raises(UserError, match="was changed after it was stored: replay again"):
        judge(version(), "champion", asks)


def test_a_folder_is_replayed_without_a_registry(bundles, traffic, capsys):
    assert main(["models", "replay", traffic, "--candidate", str(bundles[0].path), "--json", "--looks", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["looks"] == 2 and report["divergence"]["mean"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--candidate", "1"], "holds no recording"),
        ([__file__, "--candidate", "1"], "is no recording of an endpoint"),
        (["nowhere", "--candidate", "1", "--looks", "-1"], "--looks"),
        (["nowhere", "--candidate", "1", "--output", __file__], "is a file: name a folder"),
    ],
)
def test_mistakes_are_one_line(home, capsys, arguments, words):
    assert main(["models", "replay", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
