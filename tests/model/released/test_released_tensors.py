"""Files of tensors: shards, the index, and everything that can be wrong with them."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from model.errors import UserError
from model.released.shards import parse_size, plan_shards, write_tensors
from model.released.tensors import INDEX, open_tensors


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {f"t{i}": torch.full((10,), float(i)) for i in range(5)}  # 40 bytes each


@pytest.fixture
def sharded(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    write_tensors(tmp_path, tensors, shard_size=80)
    return tmp_path


def test_shards_and_their_index_are_read_back(sharded: Path, tensors: dict[str, torch.Tensor]) -> None:
    index = json.loads((sharded / INDEX).read_text())
    assert index["metadata"] == {"total_size": 200}
    assert sorted(set(index["weight_map"].values())) == [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    read = open_tensors(sharded)
    assert dict(read).keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read.shapes() == dict.fromkeys(tensors, (10,)) and set(read.dtypes().values()) == {"fp32"}
    assert read.warnings == ()


def test_a_single_file_needs_no_index(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    write_tensors(tmp_path, tensors, shard_size=200)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert open_tensors(tmp_path / "model.safetensors").keys() == open_tensors(tmp_path).keys() == tensors.keys()


def test_shards_without_an_index_are_read_together(sharded: Path, tensors: dict[str, torch.Tensor]) -> None:
    (sharded / INDEX).unlink()
    assert open_tensors(sharded).keys() == tensors.keys()


def test_no_more_than_a_shard_is_cast_and_written_at_once(
    tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def record(shard: dict[str, torch.Tensor], path: Path, **options: object) -> None:
        written.append(sum(tensor.nbytes for tensor in shard.values()))
        save_file(shard, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(safetensors.torch, "save_file", record)
    write_tensors(tmp_path, tensors, shard_size=40, dtype="bf16")
    assert written == [40, 40, 20]
    assert load_file(tmp_path / "model-00001-of-00003.safetensors")["t1"].dtype == torch.bfloat16


def test_a_tensor_larger_than_a_shard_has_its_own() -> None:
    assert plan_shards({"a": 5, "b": 100, "c": 5, "d": 4}, 10) == [["a"], ["b"], ["c", "d"]]


def test_reading_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    def anonymous() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    size = 64 * 2**20
    save_file({"t": torch.ones(size // 4)}, tmp_path / "model.safetensors")
    before = anonymous()
    tensor = open_tensors(tmp_path)["t"]
    assert float(tensor.sum()) == size / 4
    assert anonymous() - before < size / 4


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("1GiB", 2**30), ("123", 123), ("0.5KB", 500)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "five", "5XB", "-1GB", "0", "GB"])
def test_a_wrong_size_is_named(text: str) -> None:
    with pytest.raises(UserError, match=f"shard size '{text}' is no size: write 5GB"):
        parse_size(text)


def test_a_wrong_dtype_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown dtype 'fp23'.*Did you mean 'fp32'"):
        write_tensors(tmp_path, {}, shard_size=1, dtype="fp23")


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match="lacks 1 of the 3 shards of its index: model-00002-of-00003.safetensors"):
        open_tensors(sharded)


def test_a_cut_shard_is_named(sharded: Path) -> None:
    shard = sharded / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(UserError, match="model-00001-of-00003.safetensors is not a whole safetensors file"):
        open_tensors(sharded)


def test_an_index_that_disagrees_with_the_shards_is_refused(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["t9"] = index["weight_map"].pop("t0")
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError) as error:
        open_tensors(sharded)
    assert "t0 of model-00001-of-00003.safetensors is not in the index" in str(error.value)
    assert "t9 is not in model-00001-of-00003.safetensors" in str(error.value)


def test_a_tensor_that_moved_to_another_shard_is_named(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["t0"] = "model-00003-of-00003.safetensors"
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match="t0 is not in model-00003-of-00003.safetensors"):
        open_tensors(sharded)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not an index of shards"),
        ("{}", "is not an index of shards"),
        ('{"weight_map": []}', "is not an index of shards"),
        ('{"weight_map": {}}', "must map each tensor to a file name"),
        ('{"weight_map": {"t": "../x.safetensors"}}', "must map each tensor to a file name of its own folder"),
    ],
)
def test_a_broken_index_is_named(sharded: Path, content: str, sentence: str) -> None:
    (sharded / INDEX).write_text(content)
    with pytest.raises(UserError, match=sentence):
        open_tensors(sharded)


def test_a_file_beside_the_index_is_not_read_but_said(sharded: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({"t0": torch.zeros(3)}, sharded / "consolidated.safetensors")
    read = open_tensors(sharded)
    assert torch.equal(read["t0"], tensors["t0"])
    assert read.warnings == ("consolidated.safetensors not read: model.safetensors.index.json does not list it",)


def test_a_tensor_in_two_files_is_refused(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    save_file({"t0": torch.zeros(3)}, sharded / "again.safetensors")
    with pytest.raises(UserError, match="t0 is in both again.safetensors and model-00001-of-00003.safetensors"):
        open_tensors(sharded)


def test_folders_and_files_without_safetensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone does not exist: give a folder with"):
        open_tensors(tmp_path / "gone")
    with pytest.raises(UserError, match="holds no .*safetensors: give the folder that the weights were saved to.$"):
        open_tensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="pytorch_model.bin may run code when read: convert to safetensors first"):
        open_tensors(tmp_path)
    with pytest.raises(UserError, match="is not a .safetensors file"):
        open_tensors(tmp_path / "pytorch_model.bin")


def test_quantised_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"t": torch.zeros(3, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"not fp32, bf16, fp16: t \(I8\); give the weights before quantisation"):
        open_tensors(tmp_path)
