"""Tensors of a safetensors file or folder, single or sharded, read one at a time.

A tensor that is read is a view of the mapped file: it takes no memory of its own until it is changed or cast, so a
checkpoint of 17 GB is renamed and written again with the memory of one shard.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.errors import UserError

INDEX = "model.safetensors.index.json"
DTYPES = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}  # what a policy's weights may be stored in
_LISTED = 12  # names in one message


class LazyTensors(Mapping[str, Tensor]):
    """Name -> tensor over one or more safetensors files. Shapes and dtypes are known without reading tensors.

    Attributes:
        files: the safetensors files read, in order of their names.
        warnings: sentences about what lies there and was left unread.
    """

    def __init__(self, files: Mapping[Path, Any], places: Mapping[str, Path], warnings: tuple[str, ...] = ()):
        self._files = files
        self._places = places
        self.files = tuple(sorted(set(places.values())))
        self.warnings = warnings

    def __getitem__(self, name: str) -> Tensor:
        return self._files[self._places[name]].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, from the headers."""
        return {name: tuple(self._slice(name).get_shape()) for name in self}

    def dtypes(self) -> dict[str, str]:
        """ "fp32", "bf16" or "fp16" of every tensor, from the headers."""
        return {name: DTYPES[self._slice(name).get_dtype()] for name in self}

    def _slice(self, name: str) -> Any:
        return self._files[self._places[name]].get_slice(name)


def open_tensors(path: Path) -> LazyTensors:
    """The tensors of a safetensors file, or of a folder with one, with shards and an index, or with several files.

    Raises:
        UserError: no safetensors, a shard that is missing or broken, an index that disagrees with the shards, a tensor
            that is in two files, or one that is not of floating-point numbers.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(f"{path} is not a .safetensors file: give one, or the folder that holds them.")
        return _merge([path])
    if not path.is_dir():
        raise UserError(f"checkpoint {path} does not exist: give a folder with *.safetensors, or such a file.")
    if (path / INDEX).is_file():
        return _open_indexed(path)
    found = sorted(path.glob("*.safetensors"))
    if found:
        return _merge(found)
    others = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    hint = f" ({_some(others)} may run code when read: convert to safetensors first)" if others else ""
    raise UserError(f"{path} holds no *.safetensors: give the folder that the weights were saved to{hint}.")


def _open_indexed(folder: Path) -> LazyTensors:
    index = folder / INDEX
    listed = _read_index(index)
    shards = sorted(set(listed.values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(shards)} shards of its index: {_some(missing)}; "
            f"fetch them again."
        )
    tensors = _merge([folder / name for name in shards])
    actual = {name: tensors._places[name].name for name in tensors}
    problems = [f"{name} is not in {shard}" for name, shard in listed.items() if actual.get(name) != shard]
    problems += [f"{name} of {shard} is not in the index" for name, shard in actual.items() if name not in listed]
    if problems:
        raise UserError(
            f"{index} disagrees with the shards: {_some(sorted(problems), '; ')}. "
            f"They are of different checkpoints: fetch all of them again."
        )
    unread = sorted({p.name for p in folder.glob("*.safetensors")} - set(shards))
    if unread:
        tensors.warnings = (f"{_some(unread)} not read: {INDEX} does not list it",)
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text())["weight_map"]
        plain = all(isinstance(name, str) and Path(name).name == name for name in listed.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not an index of shards ({error!r}): fetch it again.") from error
    if not listed or not plain:
        raise UserError(f"{path} must map each tensor to a file name of its own folder: fetch it again.")
    return dict(listed)


def _merge(paths: Iterable[Path]) -> LazyTensors:
    files: dict[Path, Any] = {}
    places: dict[str, Path] = {}
    odd: list[str] = []
    for path in paths:
        try:
            files[path] = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a whole safetensors file ({error}): fetch it again.") from error
        for name in files[path].keys():  # noqa: SIM118 (a reader, not a dict)
            if name in places:
                raise UserError(
                    f"{name} is in both {places[name].name} and {path.name} of {path.parent}: "
                    f"keep the files of one checkpoint, with its {INDEX}."
                )
            places[name] = path
            kind = files[path].get_slice(name).get_dtype()
            if kind not in DTYPES:
                odd.append(f"{name} ({kind})")
    if odd:
        raise UserError(
            f"{path.parent} holds tensors that are not {', '.join(DTYPES.values())}: {_some(odd)}; "
            f"give the weights before quantisation."
        )
    return LazyTensors(files, places)


def _some(names: list[str], separator: str = ", ") -> str:
    rest = len(names) - _LISTED
    return separator.join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
