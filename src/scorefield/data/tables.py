"""Tables of vectors: CSV and Parquet, a column for each component."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from scorefield._inputs import number
from scorefield.data.members import reason

ROWS = 1 << 16  # that are read at a time


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
            raise ValueError(f"{path}: a column is named twice in {_listed(names)} or in {_listed(known)}")
        if missing := [name for name in known if name not in names]:
            raise ValueError(f"{path}: has no column {_listed(missing)}; it has {_listed(names)}")
        chosen = tuple(self.columns) or tuple(name for name in names if name not in known)
        if indices := [name for name in chosen if not name or name.startswith(("Unnamed: ", "__index_level_"))]:
            raise ValueError(
                f"{path}: the column {indices[0][:80]!r} looks like the row numbers of pandas: write the table without "
                "its index, or choose the columns"
            )
        if not chosen:
            raise ValueError(f"{path}: no column is left for the vector")
        return chosen


class Block(NamedTuple):
    """Some rows of a table.

    Attributes:
        vectors: (k, components).
        cond: (k, conditions).
        labels: (k,) numbers of the classes, in the order in which these are met; empty without classes.
    """

    vectors: NDArray[np.float64]
    cond: NDArray[np.float64]
    labels: NDArray[np.int64]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(" ".join(name.split())[:80] for name in names)[:1000]


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


def csv_blocks(path: Path, table: Table, limit: int | None, numbers: dict[str, int]) -> Iterator[Block]:
    """The rows of a CSV file whose first line has the names.

    Args:
        path: the file.
        table: its columns.
        limit: of the rows, the first of which are read.
        numbers: of the classes; those that are met are added.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, names = _head(file, path)
        place = {name: k for k, name in enumerate(names)}
        lines = itertools.islice((fields for fields in reader if fields), limit)
        while True:
            rows: list[list[float]] = []
            labels: list[int] = []
            for fields in itertools.islice(lines, ROWS):
                where = f"{path}: line {reader.line_num}"
                if len(fields) != len(names):
                    raise ValueError(f"{where} has {len(fields)} fields for {len(names)} columns")
                rows.append([_number(fields[place[name]], name, where) for name in (*table.columns, *table.cond)])
                if table.label is not None:
                    labels.append(numbers.setdefault(_class(fields[place[table.label]], where), len(numbers)))
            if not rows:
                return
            values = np.array(rows, np.float64)
            d = len(table.columns)
            yield Block(values[:, :d], values[:, d:], np.array(labels, np.int64))


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file claims to have."""
    with _parquet(path) as file:
        return max(0, file.metadata.num_rows)


def parquet_blocks(path: Path, table: Table, limit: int | None, numbers: dict[str, int]) -> Iterator[Block]:
    """The rows of a Parquet file, as `csv_blocks` gives them; damaged ones are found before their values are used."""
    names = [*table.columns, *table.cond]
    d, left = len(table.columns), limit
    with _parquet(path) as file:
        for batch in file.iter_batches(ROWS, columns=[*names, *([] if table.label is None else [table.label])]):
            some = batch if left is None else batch.slice(0, left)
            if not len(some):
                return
            some.validate(full=True)
            values = np.empty((len(some), len(names)))
            for k, name in enumerate(names):
                values[:, k] = _column(some.column(name), name, path)
            labels = np.empty(0, np.int64)
            if table.label is not None:
                labels = _labels(some.column(table.label), numbers, path)
            yield Block(values[:, :d], values[:, d:], labels)
            left = None if left is None else left - len(some)


@contextlib.contextmanager
def _parquet(path: Path) -> Generator[Any]:
    """An open Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{path}: reading Parquet takes pyarrow: pip install 'scorefield[parquet]'") from error
    try:
        # pre_buffer would have all of the file in memory before its values
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({reason(error)}): write it again") from error


def _column(values: Any, name: str, path: Path) -> NDArray[np.generic]:
    array, where = values.to_numpy(zero_copy_only=False), f"{path}: column {_listed([name])}"
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where} holds {str(values.type)[:80]}, not numbers: choose the columns")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} has empty or infinite values: fill or drop those rows first")
    return array


def _labels(values: Any, numbers: dict[str, int], path: Path) -> NDArray[np.int64]:
    """The numbers of the classes of a column; those that are met for the first time get the next ones."""
    if values.null_count:
        _class(None, str(path))
    encoded = values.dictionary_encode()
    used, place = np.unique(encoded.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    words = [_class(encoded.dictionary[int(k)].as_py(), str(path)) for k in used]
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)[place]


def _number(text: str, name: str, where: str) -> float:
    try:
        return number(text)
    except ValueError as error:
        raise ValueError(
            f"{where}: column {_listed([name])} holds {text[:40]!r}, not a number: mend it, or choose the columns: "
            "--reading.table.columns for numbers, .label for classes"
        ) from error


def _class(value: object, where: str) -> str:
    if value is None or not (word := str(value).strip()):
        raise ValueError(f"{where}: a row has no class: give it one, or drop it")
    return word


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
