"""The table of table.py as Apache Parquet (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tracker.errors import FormatError, MissingExtraError
from tracker.files import new_file
from tracker.formats.table import COLUMNS, frames_of_table, table_rows
from tracker.types import TrackLog

SUFFIX = ".parquet"
_ROW_GROUP = 65_536


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log, a row group at a time. Raises SinkError, MissingExtraError without pyarrow."""
    pyarrow, parquet = _pyarrow()
    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    schema = pyarrow.schema([(k, types.get(kind, pyarrow.bool_())) for k, kind in COLUMNS.items()])
    rows = table_rows(log)
    with new_file(path, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(rows, _ROW_GROUP)):
            columns = dict(zip(COLUMNS, map(list, zip(*chunk, strict=True)), strict=True))
            writer.write_table(pyarrow.table(columns, schema=schema))
    return []


def read(path: Path) -> TrackLog:
    """Read a log. Raises FormatError, and MissingExtraError without pyarrow."""
    pyarrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise FormatError(f"{path}: the column {missing[0]!r} is missing")
            return frames_of_table(path, _values(file))
    except (OSError, ValueError, pyarrow.ArrowException) as exc:
        raise FormatError(f"{path}: is not a Parquet file that can be read ({exc})") from exc


def _values(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in file.iter_batches(_ROW_GROUP, columns=list(COLUMNS)):
        for values in batch.to_pylist():
            number += 1
            yield number, values


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtraError("Parquet", "parquet") from exc
    return pyarrow, parquet
