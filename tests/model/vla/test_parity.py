"""`python -m model.vla.parity`: agrees with the reference numbers, and refuses everything that is not so."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import VisionConfig
from model.vla.parity.__main__ import Line, compare, difference, main
from model.vla.parity.comparisons import Ours, window_order
from tests.model.vla.parity_folder import GRID, KEYS, LARGE_KEYS, edit, write_fixture

STATE = "model.state_proj.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixture(tmp_path_factory.mktemp("parity"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "fixture"))


@pytest.fixture
def brief(folder: Path) -> Path:
    """A fixture of one output, for what does not depend on the others."""
    for name in ("inputs_large", "outputs_large", "preprocess"):
        (folder / f"{name}.safetensors").unlink()
    (folder / "euler_schedule.json").unlink()
    outputs = load_file(folder / "outputs.safetensors")
    save_file({"nodepth.train.velocity": outputs["nodepth.train.velocity"]}, folder / "outputs.safetensors")
    return folder


def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[list[str]], str]:
    """Exit code, the lines in columns, and what was said as an error."""
    code = main([str(folder)])
    out = capsys.readouterr()
    return code, [line.split(maxsplit=3) for line in out.out.splitlines()[:-1]], out.err


def verdicts(lines: list[list[str]]) -> dict[str, str]:
    return {f"{file}:{key}": verdict for verdict, file, key, _ in lines}


@cache
def lines_of(folder: Path) -> tuple[Line, ...]:
    return tuple(compare(folder))


@pytest.fixture
def released_lines(shared: Path) -> tuple[Line, ...]:
    """The report on the reference fixture, computed once."""
    return lines_of(shared / "parity" / "vla")


def test_everything_released_agrees(shared: Path, released_lines: tuple[Line, ...]) -> None:
    assert {line.verdict for line in released_lines} == {"ok", "note"}
    agree = {(line.file, line.key) for line in released_lines if line.verdict == "ok"}
    for file in ("outputs.safetensors", "outputs_224.safetensors"):
        assert {(file, key) for key in load_file(shared / "parity" / "vla" / file)} <= agree
    outputs = ("pixel_values", "img_masks", "norm_state_out", "norm_action_out")
    assert {("preprocess.safetensors", key) for key in outputs} <= agree
    assert {("euler_schedule.json", f"torch.float32_{n}.steps") for n in (4, 5, 10, 20, 50)} <= agree


def test_the_released_clock_s_fault_is_named(released_lines: tuple[Line, ...]) -> None:
    said = {line.key: line.text for line in released_lines if line.verdict == "note"}
    assert said["torch.bfloat16_50.steps"] == "released fault: 50 steps asked, 51 executed; ours 50"


def test_a_tampered_reference_weight_misses(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "fixture"
    folder.mkdir()
    for name in ("config.json", "inputs.safetensors"):
        shutil.copyfile(shared / "parity" / "vla" / name, folder / name)
    outputs = load_file(shared / "parity" / "vla" / "outputs.safetensors")
    save_file({"nodepth.train.velocity": outputs["nodepth.train.velocity"]}, folder / "outputs.safetensors")
    weights = load_file(shared / "parity" / "vla" / "weights.safetensors")
    weights[STATE][0, 0] += 0.1
    save_file(weights, folder / "weights.safetensors")
    code, lines, _ = report(folder, capsys)
    assert (code, lines[0][0]) == (1, "MISS")


def test_a_fixture_of_other_dimensions_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, error = report(folder, capsys)
    assert (code, error) == (0, "")
    found = verdicts(lines)
    places = [*(f"outputs.safetensors:{key}" for key in KEYS), *(f"outputs_large.safetensors:{k}" for k in LARGE_KEYS)]
    assert [found[place] for place in places] == ["ok"] * len(places)


def test_the_command_says_how_many_and_exits_0(brief: Path) -> None:
    command = [sys.executable, "-m", "model.vla.parity", str(brief)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 compared: 1 agree, 0 miss; 0 unknown"), done.stderr


def test_any_output_that_differs_is_a_miss(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("outputs", "outputs_large"):
        path = folder / f"{file}.safetensors"
        changed = {
            name: ~tensor if tensor.dtype == torch.bool else tensor + (tensor.dtype == torch.int64) + 3e-4
            for name, tensor in load_file(path).items()
        }
        save_file(changed, path)
    code, lines, _ = report(folder, capsys)
    agree = {key for verdict, file, key, _ in lines if file.startswith("outputs") and verdict == "ok"}
    assert (code, agree) == (1, set())


def test_a_tampered_weight_misses(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = load_file(brief / "weights.safetensors")[STATE]
    save_file({**load_file(brief / "weights.safetensors"), STATE: weight + 0.1}, brief / "weights.safetensors")
    code, lines, _ = report(brief, capsys)
    assert (code, verdicts(lines)) == (1, {"outputs.safetensors:nodepth.train.velocity": "MISS"})


def test_a_missing_weight_is_listed(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(brief, "weights.safetensors", model__state_proj__weight=None)
    code, _, error = report(brief, capsys)
    assert code == 1
    assert "missing      model.state_proj.weight [20, 5]" in error


def test_an_unknown_weight_is_listed(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(brief, "weights.safetensors", model__lm_head__weight=torch.zeros(2))
    code, _, error = report(brief, capsys)
    assert code == 1
    assert "unexpected   model.lm_head.weight [2]" in error


@pytest.mark.parametrize(
    "key", ["nodepth.train.attention", "nodepth.train.vlm.layer9", "nodepth.train.depth_preds", "train.grad.model.x"]
)
def test_an_unknown_output_fails(brief: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    edit(brief, "outputs.safetensors", **{key.replace(".", "__"): torch.zeros(1)})
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert verdicts(lines)[f"outputs.safetensors:{key}"] == "UNKNOWN"


def test_an_unknown_input_fails(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(brief, "inputs.safetensors", lang_mask=torch.zeros(1))
    code, _, error = report(brief, capsys)
    assert code == 1
    assert "unknown key of inputs.safetensors 'lang_mask'" in error and "Did you mean 'lang_masks'?" in error


def test_an_unknown_file_fails(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (brief / "teacher.json").write_text("{}")
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert verdicts(lines)["teacher.json:-"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"torch.float16_4": {"steps": 4}}, "torch.float16_4"),
        ({"torch.float32_2": {"speed": 2}}, "torch.float32_2.speed"),
    ],
)
def test_an_unknown_clock_fails(
    brief: Path, content: dict[str, object], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (brief / "euler_schedule.json").write_text(json.dumps(content))
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert verdicts(lines)[f"euler_schedule.json:{key}"] == "UNKNOWN"


@pytest.mark.parametrize("key", ["raw_top", "q01_force", "norm_force_out"])
def test_unknown_preprocessing_fails(brief: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({key: torch.zeros(1)}, brief / "preprocess.safetensors")
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert verdicts(lines)[f"preprocess.safetensors:{key}"] == "UNKNOWN"


def test_preprocessing_that_differs_is_a_miss(brief: Path, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(written / "preprocess.safetensors")
    outputs = ("pixel_values", "norm_state_out")
    save_file({**tensors, **{k: tensors[k] + 3e-4 for k in outputs}}, brief / "preprocess.safetensors")
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert {verdicts(lines)[f"preprocess.safetensors:{key}"] for key in outputs} == {"MISS"}


def test_a_clock_that_differs_is_a_miss(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (brief / "euler_schedule.json").write_text(json.dumps({"torch.float32_3": {"steps": 4, "last_t": 0.3}}))
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert {verdicts(lines)[f"euler_schedule.json:torch.float32_3.{key}"] for key in ("steps", "last_t")} == {"MISS"}


def test_an_empty_folder_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = report(tmp_path, capsys)
    assert code == 1
    assert "has no config.json" in error


def test_a_folder_that_is_not_there_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = report(tmp_path / "absent", capsys)
    assert code == 1
    assert "is not a folder" in error


@pytest.mark.parametrize("name", ["config.json", "weights", "inputs", "outputs", "inputs_large", "outputs_large"])
def test_a_missing_file_fails(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = name if name.endswith(".json") else f"{name}.safetensors"
    (folder / name).unlink()
    code, _, error = report(folder, capsys)
    assert code == 1
    assert f"has no {name}" in error


def test_a_damaged_file_fails(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (brief / "outputs.safetensors").write_bytes(b"no tensors")
    code, _, error = report(brief, capsys)
    assert code == 1
    assert "is not a safetensors file" in error


def test_nothing_to_compare_fails(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({}, brief / "outputs.safetensors")
    code, lines, _ = report(brief, capsys)
    assert code == 1
    assert verdicts(lines) == {"outputs.safetensors:-": "MISS"}


def spoil_config(folder: Path, part: str, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[part][key] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "key", "value", "says"),
    [
        ("flags", "norm_qkv", True, "flag norm_qkv is True: this policy has False"),
        ("flags", "vlm_casual", True, "Did you mean 'vlm_causal'"),
        ("flags", "loss_type", "huber", "unknown loss_type 'huber'"),
        ("policy", "max_state_dim", 9, "max_state_dim 9 and max_action_dim 5 differ"),
        ("expert", "num_attention_heads", 2, "num_attention_heads is 2 in the expert and 3 in the VLM"),
    ],
)
def test_settings_that_this_policy_has_not_fail(
    brief: Path, part: str, key: str, value: object, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_config(brief, part, key, value)
    code, _, error = report(brief, capsys)
    assert code == 1
    assert says in error


def test_depth_targets_of_other_views_fail(brief: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(brief, "inputs.safetensors", depth_targets=torch.zeros(5, 12, 6))
    code, _, error = report(brief, capsys)
    assert code == 1
    assert "depth_targets has 5 rows, img_masks 6 views" in error


def test_a_difference_of_nan_is_a_miss() -> None:
    line = difference("file", "key", Ours(torch.tensor([float("nan")])), torch.tensor([1.0]), 1e-5)
    assert line.verdict == "MISS"


def test_another_shape_is_a_miss() -> None:
    line = difference("file", "key", Ours(torch.zeros(2, 1)), torch.zeros(2), 1e-5)
    assert (line.verdict, line.text) == ("MISS", "shape [2, 1], released [2]")


def test_no_row_that_counts_is_a_miss() -> None:
    line = difference("file", "key", Ours(torch.zeros(2), torch.zeros(2, dtype=torch.bool)), torch.zeros(2), 1e-5)
    assert line.verdict == "MISS"


def test_rows_of_padding_do_not_count() -> None:
    line = difference("file", "key", Ours(torch.zeros(2), torch.tensor([True, False])), torch.tensor([0.0, 9.0]), 1e-5)
    assert line.verdict == "ok"


def test_window_order_runs_window_by_window_in_rows() -> None:
    config = VisionConfig(
        image_size=4 * GRID, patch_size=4, window_size=16, hidden_size=8, num_heads=1, spatial_merge_size=2
    )
    cells = [0, 1, 3, 4, 2, 5, 6, 7, 8]  # 3 x 3 merge cells in windows of 2 x 2: corner, right edge, lower edge, rest
    assert window_order(config).tolist() == [4 * cell + patch for cell in cells for patch in range(4)]
