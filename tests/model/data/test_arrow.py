"""Columns as NumPy: values, nulls and booleans, and that reading a dataset imports no pandas."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.data.arrow import texts, to_numpy
from model.data.packed_format import write_arrow
from tests.components.annotate.recordings import write_picks

PROGRAM = """
import sys
from pathlib import Path
from model.data.lerobot import LeRobotDataset
from model.data.packed_format import read_arrow
dataset = LeRobotDataset.open(sys.argv[1])
assert len(dataset.arrays(1).state) == 60 and len(list(dataset.frames(1, "cam_high", [0, 59]))) == 2
assert {name: column.tolist() for name, column in read_arrow(Path(sys.argv[2])).items()} == {
    "episode": [0, 1], "split": ["train", "holdout"], "state": [[1.5, 2.0], [3.0, 4.0]], "goal_mask": [True, False],
}
assert "pyarrow" in sys.modules and "pandas" not in sys.modules
"""


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2, 3], pa.int64())[1:], np.array([2, 3])),
        (pa.array([1.5, None], pa.float32()), np.array([1.5, np.nan])),
        (pa.array([7, None], pa.int32()), np.array([7.0, np.nan])),
        (pa.array([True, False, True])[1:], np.array([False, True])),
        (pa.chunked_array([[1], [2, 3]], pa.int32()), np.array([1, 2, 3], np.int32)),
        (pa.chunked_array([], pa.float64()), np.array([])),
    ],
)
def test_a_column_is_its_numbers(column: Any, expected: np.ndarray) -> None:
    found = to_numpy(column)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("column", [["train", "train", "holdout"], []])
def test_texts_are_texts(column: list[str]) -> None:
    found = texts(pa.array(column, pa.string()))
    assert found.tolist() == column and found.dtype.kind == "U"


def test_reading_a_dataset_or_a_packed_one_imports_no_pandas(tmp_path: Path) -> None:
    columns = {
        "episode": np.array([0, 1]),
        "split": np.array(["train", "holdout"]),
        "state": np.array([[1.5, 2.0], [3.0, 4.0]], np.float32),
        "goal_mask": np.array([True, False]),
    }
    write_arrow(tmp_path / "steps.arrow", columns)
    program = [sys.executable, "-c", PROGRAM, str(write_picks(tmp_path / "picks", 2)), str(tmp_path / "steps.arrow")]
    subprocess.run(program, check=True, timeout=240)
