"""The bundle: what is written is what is loaded, and damage is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model.bundle import Bundle, create_bundle, load_bundle, verify_bundle
from model.errors import UserError
from model.inference import Observation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_bundle(tmp_path_factory.mktemp("made") / "bundle", seed=3).path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    """A copy that a test may damage."""
    return load_bundle(Path(shutil.copytree(made, tmp_path / "bundle")))


def observation(bundle: Bundle, **changes: object) -> Observation:
    names = bundle.preparation.cameras
    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    values = {"images": dict.fromkeys(names, image), "state": np.zeros(14, np.float32), "task": "lift the cube"}
    return Observation(**(values | changes))  # type: ignore[arg-type]


def test_equal_seeds_give_equal_bytes(tmp_path: Path, bundle: Bundle) -> None:
    assert create_bundle(tmp_path / "again", seed=3).digest == bundle.digest
    assert create_bundle(tmp_path / "other", seed=4).digest != bundle.digest


def test_a_robot_with_unverified_limits_can_be_tried_too(tmp_path: Path) -> None:
    bundle = create_bundle(tmp_path / "gr1", robot="gr1")
    assert len(bundle.contract["action"]) == 44
    assert bundle.self_test() <= 1e-4


def test_a_loaded_bundle_answers_as_the_exported_one(bundle: Bundle) -> None:
    loaded = load_bundle(bundle.path)
    actions = loaded.infer([observation(loaded)], seeds=[5])
    assert actions.shape == (1, bundle.config.horizon, 14) and actions.dtype == np.float32
    assert np.array_equal(actions, bundle.infer([observation(bundle)], seeds=[5]))
    assert loaded.self_test() <= 1e-4


def test_the_seed_is_the_noise(bundle: Bundle) -> None:
    both = bundle.infer([observation(bundle)] * 2, seeds=[0, 1])
    assert np.abs(both[0] - both[1]).max() > 1e-4


def test_one_camera_is_enough_and_none_is_refused(bundle: Bundle) -> None:
    image = np.zeros((100, 80, 3), np.uint8)
    assert np.isfinite(bundle.infer([observation(bundle, images={"cam_high": image})])).all()
    with pytest.raises(UserError, match="no image: send at least one of cam_high"):
        bundle.infer([observation(bundle, images={})])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": {"cam_hihg": np.zeros((9, 9, 3), np.uint8)}}, "unknown camera 'cam_hihg'.*Did you mean 'cam_high'"),
        ({"state": np.zeros(13, np.float32)}, "state has shape .13,., but aloha_sim has 14 values"),
        ({"state": np.full(14, np.nan, np.float32)}, "state of left_waist.* is not finite"),
        ({"task": " "}, "instruction is empty"),
    ],
)
def test_a_bad_observation_is_named(bundle: Bundle, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        bundle.infer([observation(bundle, **changes)])


def test_damage_is_named(bundle: Bundle) -> None:
    weights = bundle.path / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    (bundle.path / "tokenizer.json").unlink()
    (bundle.path / "notes.txt").write_text("x")
    with pytest.raises(UserError) as error:
        verify_bundle(bundle.path)
    for part in ("model.safetensors has other bytes", "tokenizer.json is missing", "notes.txt is not in the manifest"):
        assert part in str(error.value)


def test_a_folder_that_is_no_bundle_or_a_newer_one_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(UserError, match="is not a bundle"):
        load_bundle(tmp_path)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    (bundle.path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99"):
        load_bundle(bundle.path)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"horizon": 12}, "horizon is 12, its files say 10"),
        ({"robot": "gr1", "parameters": 1}, "robot is gr1, its files say aloha_sim; parameters is 1, .*184750"),
        ({"normalization_digest": "0" * 64}, "normalization_digest is 000"),
        ({"cameras": []}, r"cameras is \[\], its files say \[.*cam_high"),
        ({"control_hz": 0}, "promises 0 actions a second"),
        ({"control_hz": "fast"}, "promises 'fast' actions a second"),
    ],
)
def test_a_contract_that_its_files_do_not_keep_is_refused(bundle: Bundle, lie: dict[str, object], words: str) -> None:
    """Its bytes are those of its manifest: only who made the manifest could tell."""
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["contract"] |= lie
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    verify_bundle(bundle.path)
    with pytest.raises(UserError, match=words):
        load_bundle(bundle.path)


def test_weights_and_configurations_of_another_code_are_named(bundle: Bundle) -> None:
    weights = load_file(bundle.path / "model.safetensors")
    weights["extra"] = weights.pop("state_proj.bias")
    weights["action_in_proj.bias"] = weights["action_in_proj.bias"][:3].copy()
    save_file(weights, bundle.path / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_bundle(bundle.path, verify=False)
    for part in ("state_proj.bias is missing", "extra is unknown", r"action_in_proj.bias has shape (3,), not (32,)"):
        assert part in str(error.value)
    config = json.loads((bundle.path / "config.json").read_text())
    config["policy"]["goal"]["depth_of_thought"] = 1
    (bundle.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="'goal' lacks or does not know depth_of_thought"):
        load_bundle(bundle.path, verify=False)


def test_weights_that_compute_something_else_fail_the_self_test(bundle: Bundle) -> None:
    bundle.policy.load_state_dict(bundle.untrained(seed=9).policy.state_dict())
    with pytest.raises(UserError, match="golden observation gives actions that differ"):
        bundle.self_test()
