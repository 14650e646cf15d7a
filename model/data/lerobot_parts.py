"""The two kinds of file that many episodes of a LeRobot v3.0 dataset share: tables and videos."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.lerobot_staging import BITEXACT

if TYPE_CHECKING:
    import pyarrow.parquet


class TableFile:
    """A Parquet file that grows by one row group an episode."""

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        self._path = path
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    @property
    def megabytes(self) -> float:
        return self._path.stat().st_size / 1e6

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {
            key: pa.array(values)
            if values.ndim == 1
            else pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
            for key, values in columns.items()
        }
        table = pa.table(arrays)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        assert self._writer is not None
        self._writer.close()


class VideoFile:
    """An MP4 file that grows by the packets of whole clips; every clip begins with a key frame."""

    def __init__(self, path: Path, number: int, fps: int) -> None:
        import av

        self.number = number
        self.frames = 0
        self._bytes = 0
        self._tick = Fraction(1, fps)
        self._out = av.open(str(path), "w", format="mp4", options=BITEXACT)
        self._stream: Any = None

    @property
    def megabytes(self) -> float:
        return self._bytes / 1e6

    def append(self, clip: Path) -> None:
        import av

        with av.open(str(clip)) as source:
            stream = source.streams.video[0]
            if self._stream is None:
                self._stream = self._out.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if not packet.size:
                    continue
                packet.stream = self._stream
                packet.time_base = self._tick
                packet.pts = packet.dts = self.frames
                packet.duration = 1
                self._bytes += packet.size
                self._out.mux(packet)
                self.frames += 1

    def close(self) -> None:
        self._out.close()
