"""What a bundle's manifest promises, and that nothing is parsed which it does not cover."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from model.bundle import Bundle, create_bundle, load_bundle
from model.bundle_files import MANIFEST, parse_manifest, verify_bundle, write_manifest
from model.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return create_bundle(tmp_path_factory.mktemp("whole") / "bundle", seed=3)


@pytest.fixture
def folder(whole: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.path, tmp_path / "bundle"))


def listed_again(folder: Path, **promised: Any) -> None:
    """A manifest that is right about files which are not, and promises what they say."""
    write_manifest(folder, {**json.loads((folder / MANIFEST).read_text())["contract"], **promised})


def test_another_bundle_than_was_asked_for_is_refused_before_it_is_read(folder: Path, whole: Bundle) -> None:
    assert load_bundle(folder, digest=whole.digest).digest == whole.digest
    (folder / "config.json").write_text("no json at all")
    listed_again(folder)
    with pytest.raises(UserError, match="not aaaaaaaaaaaa that was asked for"):
        load_bundle(folder, digest="a" * 64)


@pytest.mark.parametrize("name", ["config.json", "normalization.json", "transforms.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{}", "[]", "no json"])
def test_files_of_another_make_are_one_sentence(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    listed_again(folder)
    with pytest.raises(UserError) as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_safetensors_are_one_sentence(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04pickle")
    listed_again(folder)
    with pytest.raises(UserError, match=r"cannot be read \(SafetensorError"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["weights.pkl", "model.pt", ".hidden.json", "run.py"])
def test_what_could_execute_or_hide_is_in_no_bundle(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    with pytest.raises(UserError, match=f"lists '{name}'"):
        listed_again(folder)
    with pytest.raises(UserError, match=f"{name} is not in the manifest"):
        verify_bundle(folder)


@pytest.mark.parametrize("name", ["../up.json", "/etc/passwd.json", "a/b.json", "..", ""])
def test_a_manifest_names_no_other_place(folder: Path, name: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 0}
    with pytest.raises(UserError, match="no folders"):
        parse_manifest(json.dumps(manifest).encode(), "x")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_manifest_is_a_sentence_or_seen_by_its_digest(whole: Bundle, data: st.DataObject) -> None:
    content = bytearray((whole.path / MANIFEST).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_manifest(bytes(content), "x")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert set(parsed) >= {"schema_version", "files", "contract"}


def test_a_link_to_a_folder_is_no_file_of_a_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UserError, match=r"config\.json has other bytes"):
        verify_bundle(folder)


def test_the_golden_observation_sees_exchanged_cameras_and_other_deviations(folder: Path) -> None:
    loaded = load_bundle(folder)
    assert loaded.self_test() <= 1e-4
    transforms = json.loads((folder / "transforms.json").read_text())
    swapped = {**transforms, "cameras": [*transforms["cameras"][1:], transforms["cameras"][0]]}
    (folder / "transforms.json").write_text(json.dumps(swapped))
    cameras = loaded.contract["cameras"]
    listed_again(folder, cameras=[*cameras[1:], cameras[0]])
    with pytest.raises(UserError, match="golden observation"):
        load_bundle(folder).self_test()
    normalize = next(one for one in transforms["state"]["transforms"] if "statistics" in one)
    normalize["statistics"]["std"] = [2 * value for value in normalize["statistics"]["std"]]
    (folder / "transforms.json").write_text(json.dumps(transforms))
    listed_again(folder, cameras=cameras)
    with pytest.raises(UserError, match="golden observation"):
        load_bundle(folder).self_test()


def test_bundles_of_schema_1_are_served_still(folder: Path) -> None:
    """One golden image for all cameras."""
    bundle = load_bundle(folder)
    golden = load_file(folder / "golden.safetensors")
    image = golden["image.cam_high"]
    old = {"image": image, "state": golden["state"], "actions": golden["actions"]}
    from model.inference import Observation

    images = dict.fromkeys(bundle.preparation.cameras, image)
    observation = Observation(images=images, state=old["state"], task=bundle.preparation.tasks[0])
    old["actions"] = bundle.infer([observation], seeds=[0])[0]
    save_file({name: np.ascontiguousarray(value) for name, value in old.items()}, folder / "golden.safetensors")
    listed_again(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "schema_version": 1}))
    assert load_bundle(folder).self_test() <= 1e-4


def test_everybody_may_read_what_a_server_of_another_user_needs(whole: Bundle) -> None:
    assert {file.stat().st_mode & 0o044 for file in whole.path.iterdir()} == {0o044}
