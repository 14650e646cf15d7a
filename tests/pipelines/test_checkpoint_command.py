"""`lingbot checkpoint`: a bundle goes out in the released layout and comes back; mistakes get one sentence."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from model.bundle import create_bundle
from pipelines.cli import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_bundle(tmp_path_factory.mktemp("made") / "bundle").path


def test_export_and_import(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released, imported = tmp_path / "released", tmp_path / "imported"
    assert main(["checkpoint", "export", str(bundle), str(released), "--shard-size", "100KB", "--dtype", "bf16"]) == 0
    shown = capsys.readouterr().out
    assert "tensors under their released names, of debug" in shown
    assert "warning: debug predicts 'clean_action', not a velocity" in shown
    assert main(["checkpoint", "import", str(released), str(imported)]) == 0
    shown = capsys.readouterr().out
    assert f"start from it with: lingbot run --set pretrain.initial_checkpoint={imported}" in shown
    before, after = load_file(bundle / "model.safetensors"), load_file(imported / "model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name].bfloat16() == after[name]).all() for name in before)


def test_warnings_of_an_import_are_shown(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["checkpoint", "export", str(bundle), str(tmp_path / "released")])
    file = tmp_path / "released" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.depth_align_embs"]
    save_file(tensors, file)
    capsys.readouterr()
    assert main(["checkpoint", "import", str(tmp_path / "released"), str(tmp_path / "imported"), "--seed", "4"]) == 0
    shown = capsys.readouterr().out
    assert (
        "warning: model.depth_align_embs is not in the checkpoint" in shown and "1 of them drawn with seed 4" in shown
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "gone", "new"], "checkpoint gone does not exist: give a folder"),
        (["import", "gone", "new", "--from", "qwen"], "unknown source of a checkpoint.*Did you mean 'qwen2_5_vl'"),
        (["import", "gone", "new", "--from", "qwen2_5_vl"], "add --preset lingbot_vla_4b_depth"),
        (["import", "gone", "new", "--from", "qwen2_5_vl", "--preset", "debgu"], "Did you mean 'debug'"),
        (["export", "gone", "new"], "gone has no config.json: give a bundle"),
        (["export", "gone", "new", "--shard-size", "five"], "shard size 'five' is no size: write 5GB"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["checkpoint", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("lingbot: ") and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_unknown_dtype_is_answered_with_the_nearest(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "export", str(bundle), str(tmp_path / "new"), "--dtype", "bf6"]) == 2
    assert "unknown dtype 'bf6'" in capsys.readouterr().err and not (tmp_path / "new").exists()
