"""Parquet and Arrow columns as NumPy, without pandas.

pyarrow imports pandas (0.4 s, 60 MB) for `read_table`, for `to_numpy`, and for each Python value that it converts to
Arrow. What only reads numbers needs none of the three.
"""

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def read_table(source: "Path | str | BinaryIO") -> "pa.Table":
    """All of a Parquet file.

    Raises:
        pyarrow.ArrowException, OSError: it cannot be read.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(source, pre_buffer=True) as file:
        return file.read()


def to_numpy(column: Any) -> np.ndarray:
    """The numbers of a column or array, not writable; where one is null, float64 with NaN in its place."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        array = pc.fill_null(pc.cast(array, pa.float64()), np.nan)
    if pa.types.is_boolean(array.type):  # a bit each, which DLPack does not know
        return np.from_dlpack(pc.cast(array, pa.uint8())).view(bool)
    return np.from_dlpack(array)


def texts(column: Any) -> np.ndarray:
    """The texts of a column without nulls, few of which differ."""
    coded = column.dictionary_encode()
    return np.array(coded.dictionary.to_pylist(), dtype=str)[to_numpy(coded.indices)]
