"""Parquet by arro3, which is installed with `portfolio-state-manager[parquet]`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

from psm.workers.analytics.exports import Columns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS = DataType.timestamp("us", tz="UTC")
_TYPES = {
    "int8": DataType.int64(),
    "int4": DataType.int64(),
    "bool": DataType.bool(),
    "timestamptz": _MICROSECONDS,
}


class ParquetWriter:
    """Keeps batches of columns, compressed once `finish` writes them.

    Args:
        path: of the file.
        columns: of the table.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._types = [_TYPES.get(kind, DataType.utf8()) for _, kind in columns]
        self._schema = Schema(
            [
                Field(name, kind, nullable=True)
                for (name, _), kind in zip(columns, self._types, strict=True)
            ]
        )
        self._batches: list[RecordBatch] = []

    def put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take some rows."""
        columns = list(zip(*rows, strict=True))
        arrays = [_array(list(v), kind) for v, kind in zip(columns, self._types, strict=True)]
        self._batches.append(RecordBatch.from_arrays(arrays, schema=self._schema))

    def finish(self) -> None:
        """Write the file."""
        reader = RecordBatchReader.from_batches(self._schema, self._batches)
        # The library panics where it cannot write, so it writes to memory.
        packed = BytesIO()
        write_parquet(reader, packed, compression="zstd(3)")
        self._path.write_bytes(packed.getbuffer())


def _array(values: list[Any], kind: DataType) -> Array:
    if kind == _MICROSECONDS:
        counted = [None if time is None else (time - _EPOCH) // _MICROSECOND for time in values]
        return Array(counted, type=DataType.int64()).cast(kind)
    return Array(values, type=kind)
