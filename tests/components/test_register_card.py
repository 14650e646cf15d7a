"""The model card: what a person reads before giving a policy a robot."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

from components.adapters import tracking
from components.promote.gate import Policy
from components.promote.verdicts import judge
from components.register.card import LIMIT, model_card, with_verdict
from tests.registry_house import bundles, evaluation, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"


def test_a_registered_version_has_a_card_and_keeps_what_the_gate_said(home, bundles, tmp_path):
    register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    card = tracking.get_version(MODEL, "1").description
    assert card.startswith("# Untrained policy") and bundles[0].digest in card
    for part in (
        "seeded weights (seed 0). It has learned nothing",
        "14 state values in",
        "cam_left_wrist (",
        "`lift_right`, the policy: SR 80% [71%, 87%] in 100 trials",
        "replaying the mean trajectory: SR 10%",
        "No gate has seen it",
    ):
        assert part in card, part
    judge(tracking.get_version(MODEL, "1"), "champion", Policy(min_trials=101))
    refused = tracking.get_version(MODEL, "1").description
    assert "For the alias `champion`: not promoted." in refused and "at least 101 are asked for" in refused
    judge(tracking.get_version(MODEL, "1"), "champion", Policy())
    passed = tracking.get_version(MODEL, "1").description
    assert passed.count("## Gate") == 1 and "champion`: passed" in passed and "at least 101" not in passed
    register(tmp_path / "again", bundles[0], evaluation(bundles[0].digest))
    assert tracking.get_version(MODEL, "1").description == passed
    with tracking.connection() as client:
        run = tracking.get_version(MODEL, "1").run_id
        kept = client.download_artifacts(run, "MODEL_CARD.md", str(tmp_path))
    with open(kept) as file:
        assert file.read().rstrip() == card.partition("\n## Gate")[0].rstrip()


def test_no_closed_loop_is_said_and_nothing_is_made_up():
    contract = {
        "robot": "gr1", "cameras": [{"name": "ego", "height": 224, "width": 224}], "state": ["a"], "action": ["a"],
        "horizon": 50, "control_hz": 20.0, "tasks": ["pick"], "normalization_digest": "n" * 64,
    }  # fmt: skip
    card = model_card(
        model="m", digest="d", own="# Policy\n\nIt moves.", contract=contract,
        evaluation={"closed_loop": None, "closed_loop_reason": "robot gr1 has no simulator"}, tags={},
        provenance={"command": []},
    )  # fmt: skip
    assert "No closed-loop evidence (robot gr1 has no simulator)" in card and "SR" not in card
    assert "Dataset" not in card and "Code" not in card


def test_a_card_fits_in_the_registry_and_says_where_the_whole_is():
    verdict = {"alias": "champion", "promote": False, "reasons": ["too few trials"] * 400}
    once = with_verdict("# A card\n" + "x" * 9000, verdict)
    assert len(once) <= LIMIT and once.count("the whole card is MODEL_CARD.md") == 2
    assert with_verdict(once, verdict) == once
    short = with_verdict(once, None)
    assert "No gate has seen it" in short and short.count("the whole card is") == 1
