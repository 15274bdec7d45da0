"""Tables of vectors: CSV and Parquet, a column for each component."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorefield._inputs import number
from scorefield.data.found import Found, counted
from scorefield.data.members import reason
from scorefield.data.sheets import FLAGS, MISSING, opened

ROWS = 1 << 16  # that are read at a time
LARGEST = 2**53  # integer up to which float64 has all


@dataclass(frozen=True)
class Table:
    """Which columns of a table are what.

    Args:
        columns: names of the columns of the vector; by default all that are not named below, but for the row numbers
            that pandas writes. Columns without names are called 0, 1, 2, ...
        label: name of a column of classes, numbered in the order of their names, by value if these are integers.
        cond: names of columns of real conditions.
        without: names of columns to leave out.
        header: the first line of a CSV file names the columns; by default unless it holds numbers, other than 0, 1, 2.
    """

    columns: Sequence[str] = ()
    label: str | None = None
    cond: Sequence[str] = ()
    without: Sequence[str] = ()
    header: bool | None = None


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


class TableFile:
    """A CSV or Parquet file, of which it is known what its columns are.

    Args:
        path: the file.
        asked: what was asked of its columns.

    Attributes:
        table: the same with all that was left open.
        classes: numbers of the classes that were met in the rows read so far, by their names.
    """

    def __init__(self, path: Path, asked: Table) -> None:
        self.path, self.classes = path, dict[str, int]()
        self._left, self._otherwise = list[str](), list[str]()
        self._flags, self._counts = set[str](), set[str]()
        self.is_parquet = path.suffix.lower() == ".parquet"
        header = None
        if self.is_parquet:
            with _parquet(path) as file:
                names, index = list(file.schema_arrow.names), _pandas_index(file.schema_arrow.metadata or {})
        else:
            with opened(path, asked.header) as sheet:
                names, index, header = sheet.names, [], sheet.named
            if sheet.comments:
                self._left.append(f"{counted(sheet.comments, 'line')} before the names")
            if not sheet.named:
                self._otherwise.append("names in the first line: --reading.table.header true")
            elif sheet.counted and asked.header is None:
                self._otherwise.append("a row in the first line: --reading.table.header false")
        columns = self._chosen(names, index, asked)
        self.table = replace(asked, columns=columns, without=(), header=header)

    def _chosen(self, names: Sequence[str], index: Sequence[str], asked: Table) -> tuple[str, ...]:
        """The names of the vector's columns in a table that has these."""
        known = [*asked.columns, *asked.cond, *([] if asked.label is None else [asked.label])]
        numbering = [name for name in names if name not in known and (name in index or _is_numbering(name))]
        rest = [name for name in names if name not in numbering]
        if len(set(rest)) != len(rest) or len(set(known)) != len(known):
            raise ValueError(f"{self.path}: a column is named twice in {_listed(rest)} or in {_listed(known)}")
        if missing := [name for name in (*known, *asked.without) if name not in names]:
            raise ValueError(f"{self.path}: has no column {_listed(missing)}; it has {_listed(names)}")
        chosen = tuple(asked.columns) or tuple(name for name in rest if name not in (*known, *asked.without))
        if not chosen:
            raise ValueError(f"{self.path}: no column is left for the vector")
        if numbering:
            self._left.append(f"{_columns(numbering)}: the row numbers of pandas")
        if others := [name for name in rest if name not in (*known, *chosen)]:
            self._left.append(f"{_columns(others)}: not asked for")
        return chosen

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns of numbers: the vector's and the conditions."""
        return (*self.table.columns, *self.table.cond)

    def rows(self) -> int | None:
        """How many rows it claims to have; None if it has to be read to know."""
        if not self.is_parquet:
            return None
        with _parquet(self.path) as file:
            return max(0, file.metadata.num_rows)

    def blocks(self, limit: int | None) -> Iterator[Block]:
        """Its rows, or the first so many of them."""
        first, columns = 0, len(self.table.columns)
        for values, labels in self._parquet_blocks(limit) if self.is_parquet else self._csv_blocks(limit):
            rows = np.arange(first, first + len(values))
            same = {name for k, name in enumerate(self.names) if len(rows) > 1 and np.ptp(values[:, k] - rows) == 0}
            self._counts = same if not first else self._counts & same
            first += len(values)
            yield Block(values[:, :columns], values[:, columns:], labels)

    def found(self, rows: int, class_names: Sequence[str]) -> Found:
        """What was made of it, once its rows have been read."""
        parts = [f"{counted(rows, 'row')} of {_columns(self.table.columns)}, real numbers"]
        if class_names:
            parts.append(f"{counted(len(class_names), 'class', 'classes')} by {_columns([self.table.label or ''])}")
            parts[-1] += f": {_some(class_names)}"
        if self.table.cond:
            parts.append(f"conditions in {_columns(self.table.cond)}")
        if self._flags:
            parts.append(f"true and false as 1 and 0 in {_columns(sorted(self._flags))}")
        otherwise = list(self._otherwise)
        if self._counts and rows > 9:
            name = sorted(self._counts)[0]
            otherwise.append(f"row numbers in {_columns([name])}: --reading.table.without {name}")
        return Found("; ".join(parts), tuple(self._left), tuple(otherwise))

    def _csv_blocks(self, limit: int | None) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        with opened(self.path, self.table.header) as sheet:
            place = {name: k for k, name in enumerate(sheet.names)}
            lines = itertools.islice(sheet.rows, limit)
            while True:
                rows: list[list[float]] = []
                labels: list[int] = []
                for line, fields in itertools.islice(lines, ROWS):
                    where = f"{self.path}: line {line}"
                    if len(fields) != len(sheet.names):
                        raise ValueError(f"{where} has {len(fields)} fields for {len(sheet.names)} columns")
                    rows.append([self._number(fields[place[name]], name, where) for name in self.names])
                    if self.table.label is not None:
                        labels.append(self._class(fields[place[self.table.label]], where))
                if not rows:
                    return
                yield np.array(rows, np.float64), np.array(labels, np.int64)

    def _parquet_blocks(self, limit: int | None) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Damaged ones are found before their values are used."""
        label, first = self.table.label, 0
        with _parquet(self.path) as file:
            for batch in file.iter_batches(ROWS, columns=[*self.names, *([] if label is None else [label])]):
                some = batch if limit is None else batch.slice(0, limit - first)
                if not len(some):
                    return
                some.validate(full=True)
                values = np.empty((len(some), len(self.names)))
                for k, name in enumerate(self.names):
                    values[:, k] = self._column(some.column(name), name, first)
                yield values, np.empty(0, np.int64) if label is None else self._labels(some.column(label))
                first += len(some)

    def _number(self, text: str, name: str, where: str) -> float:
        try:
            value = number(text)
        except ValueError as error:
            word = text.strip().casefold()
            if word in FLAGS:
                self._flags.add(name)
                return FLAGS[word]
            what = f"{where}: {_columns([name])} holds {text[:40]!r}, "
            if word in MISSING:
                raise ValueError(f"{what}no value: {_without_holes(name)}") from error
            if word.replace(",", "", 1).strip("+-").isdecimal() and word.isascii():
                raise ValueError(f"{what}a decimal comma: write numbers with points") from error
            raise ValueError(f"{what}not a number: {_without_words(name)}") from error
        if abs(value) >= LARGEST and text.strip().lstrip("+-").isdigit() and int(text) != value:
            raise ValueError(f"{where}: {_columns([name])} {_beyond(name)}")
        return value

    def _column(self, values: Any, name: str, first: int) -> NDArray[np.generic]:
        import pyarrow as pa

        if pa.types.is_boolean(values.type):
            self._flags.add(name)
        decimal = pa.types.is_decimal(values.type)
        values = values.cast(pa.float64()) if decimal else values
        empty = values.is_null().to_numpy(zero_copy_only=False)
        array = (
            values.drop_null().to_numpy(zero_copy_only=False) if empty.any() else values.to_numpy(zero_copy_only=False)
        )
        where = f"{self.path}: {_columns([name])}"
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{where} holds {str(values.type)[:80]}, not numbers: {_without_words(name)}")
        strange = empty if empty.any() else ~np.isfinite(array)
        if strange.any():
            row = first + int(strange.argmax())
            raise ValueError(f"{where} has empty or infinite values, the first in row {row}: {_without_holes(name)}")
        if (decimal or array.dtype.kind in "iu") and int(max(array.max(), -array.min())) > LARGEST:
            raise ValueError(f"{where} {_beyond(name)}")
        return array

    def _labels(self, values: Any) -> NDArray[np.int64]:
        """The numbers of the classes of a column; those that are met for the first time get the next ones."""
        if values.null_count:
            self._class(None, str(self.path))
        encoded = values.dictionary_encode()
        used, place = np.unique(encoded.indices.to_numpy(zero_copy_only=False), return_inverse=True)
        numbers = [self._class(encoded.dictionary[int(k)].as_py(), str(self.path)) for k in used]
        return np.array(numbers, np.int64)[place]

    def _class(self, value: object, where: str) -> int:
        if value is None or not (word := str(value).strip()):
            raise ValueError(f"{where}: a row has no class: give it one, or drop it")
        return self.classes.setdefault(word, len(self.classes))


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


def _pandas_index(metadata: dict[bytes, bytes]) -> list[str]:
    """The columns that pandas would make its index of."""
    try:
        index = json.loads(metadata.get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in index if isinstance(name, str)] if isinstance(index, list) else []


def _is_numbering(name: str) -> bool:
    return not name or name.startswith(("Unnamed: ", "__index_level_"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(" ".join(name.split())[:80] or "''" for name in names)[:1000]


def _columns(names: Sequence[str]) -> str:
    """Columns in words, of many the first."""
    if len(names) == 1:
        return f"column {_listed(names)}"
    return f"{len(names)} columns ({_some(names)})"


def _some(names: Sequence[str]) -> str:
    return _listed(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _without_holes(name: str) -> str:
    return f"fill or drop such rows, or leave the column out: --reading.table.without {_listed([name])}"


def _beyond(name: str) -> str:
    return f"holds integers beyond 2^53, which a float64 would round: --reading.table.without {name}"


def _without_words(name: str) -> str:
    return (
        f"leave the column out (--reading.table.without {_listed([name])}), make numbers of it, or take it as the "
        f"class (--reading.table.label {_listed([name])})"
    )
