"""Tables of vectors: CSV and Parquet, a column for each component."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Which columns of a table are what.

    Args:
        columns: names of the columns of the vector; by default all that are not named below.
        label: name of a column of classes, numbered in the order of their names, by value if these are integers.
        cond: names of columns of real conditions.
    """

    columns: Sequence[str] = ()
    label: str | None = None
    cond: Sequence[str] = ()

    def of(self, path: Path) -> Table:
        """The same with the columns of a file's vectors by their names."""
        return replace(self, columns=self._chosen(column_names(path), path))

    def _chosen(self, names: Sequence[str], path: Path) -> tuple[str, ...]:
        """The names of the vector's columns in a table that has these."""
        known = [*self.columns, *self.cond, *([] if self.label is None else [self.label])]
        if len(set(names)) != len(names) or len(set(known)) != len(known):
            raise ValueError(f"{path}: a column is named twice in {', '.join(names)} or in {', '.join(known)}")
        if missing := [name for name in known if name not in names]:
            raise ValueError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(names)}")
        chosen = tuple(self.columns) or tuple(name for name in names if name not in known)
        if indices := [name for name in chosen if not name or name.startswith(("Unnamed: ", "__index_level_"))]:
            raise ValueError(
                f"{path}: the column {indices[0]!r} looks like the row numbers of pandas: write the table without its "
                "index, or choose the columns"
            )
        if not chosen:
            raise ValueError(f"{path}: no column is left for the vector")
        return chosen


Row = tuple[NDArray[np.float64], NDArray[np.float64], str | None]


def column_names(path: Path) -> list[str]:
    """The names of the columns of a CSV or Parquet file."""
    if path.suffix.lower() == ".parquet":
        with _parquet(path) as file:
            return list(file.schema_arrow.names)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _head(file, path)[1]


def _head(file: TextIO, path: Path) -> tuple[Any, list[str]]:
    """A reader of the lines behind the first of a CSV file, and that one, the names."""
    sample = file.read(4096)
    file.seek(0)
    reader = csv.reader(file, delimiter=max(",;\t", key=sample.partition("\n")[0].count))
    names = [name.strip() for name in next(reader, [])]
    if not names or all(_is_number(name) for name in names):
        raise ValueError(f"{path}: the first line must name the columns; got {', '.join(names)[:80]!r}")
    return reader, names


def csv_rows(path: Path, table: Table) -> Iterator[Row]:
    """(vector, conditions, class) of each line of a CSV file whose first line has the names."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, names = _head(file, path)
        place = {name: k for k, name in enumerate(names)}
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(names):
                raise ValueError(f"{path}: line {reader.line_num} has {len(fields)} fields for {len(names)} columns")
            where = f"{path}: line {reader.line_num}"
            vector, cond = (
                np.array([_number(fields[place[name]], name, where) for name in part], np.float64)
                for part in (table.columns, table.cond)
            )
            yield vector, cond, None if table.label is None else _class(fields[place[table.label]], where)


def parquet_rows(path: Path, table: Table) -> Iterator[Row]:
    """(vector, conditions, class) of each row of a Parquet file."""
    wanted = [*table.columns, *table.cond, *([] if table.label is None else [table.label])]
    with _parquet(path) as file:
        for batch in file.iter_batches(65536, columns=wanted):
            parts: list[NDArray[np.float64]] = []
            for part in (table.columns, table.cond):
                columns = [_column(batch.column(name), name, path) for name in part]
                parts.append(np.stack(columns, 1) if columns else np.empty((len(batch), 0), np.float64))
            classes = None if table.label is None else batch.column(table.label).to_pylist()
            for k in range(len(batch)):
                yield parts[0][k], parts[1][k], None if classes is None else _class(classes[k], str(path))


@contextlib.contextmanager
def _parquet(path: Path) -> Generator[Any]:
    """An open Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{path}: reading Parquet takes pyarrow: pip install 'scorefield[parquet]'") from error
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error}): write it again") from error


def _column(values: object, name: str, path: Path) -> NDArray[np.float64]:
    array = values.to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: column {name} holds {values.type}, not numbers: choose the columns")  # type: ignore[attr-defined]
    if not np.isfinite(array.astype(np.float64)).all():
        raise ValueError(f"{path}: column {name} has empty or infinite values: fill or drop those rows first")
    return array.astype(np.float64)


def _number(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{where}: column {name} holds {text[:40]!r}, not a number: mend it, or choose the columns: "
            "--reading.table.columns for numbers, .label for classes"
        )
    return value


def _class(value: object, where: str) -> str:
    if value is None or not (word := str(value).strip()):
        raise ValueError(f"{where}: a row has no class: give it one, or drop it")
    return word


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
