"""The text of a table: what separates its fields, which line has the names, and its rows."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scorefield._inputs import number

MISSING = frozenset(("", "na", "n/a", "<na>", "nan", "null", "none", "?", "-", "."))  # words for no value
FLAGS = {"true": 1.0, "false": 0.0}


class Sheet(NamedTuple):
    """An open table of text.

    Attributes:
        names: of the columns; 0, 1, 2, ... where there are none.
        named: whether they come from the file.
        counted: whether they are 0, 1, 2, ... there.
        comments: lines before them that begin with #.
        rows: (number of the line from 1, fields) of each that has names or numbers, but for the names.
    """

    names: list[str]
    named: bool
    counted: bool
    comments: int
    rows: Iterator[tuple[int, list[str]]]


@contextmanager
def opened(path: Path, header: bool | None) -> Generator[Sheet]:
    """A file of fields that are separated by commas, semicolons, tabs or, as numpy.savetxt does it, by spaces.

    Args:
        path: the file.
        header: whether its first line has the names; None decides by what is there.

    Raises:
        ValueError: it is empty, or its first line may be either names or numbers.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield _sheet(file, path, header)


def _sheet(file: Iterable[str], path: Path, header: bool | None) -> Sheet:
    lines, comments = iter(file), list[str]()
    for first in lines:
        if first.strip() and not first.startswith("#"):
            break
        comments.append(first)
    else:
        first = ""
    second = next(lines, "")
    cut = _cut(first, second, "\t,;" if path.suffix.lower() == ".tsv" else ",;\t")
    rows = ((len(comments) + line, fields) for line, fields in cut(itertools.chain((first, second), lines)) if fields)
    top, below = next(rows, (0, list[str]()))[1], next(cut((second,)), (0, list[str]()))[1]
    names = [name.strip() for name in top]
    if not any(names):
        raise ValueError(
            f"{path}: the first line must name the columns, or have numbers; got {', '.join(names)[:80]!r}"
        )
    numbers = all(map(_is_value, names)) and any(map(_is_number, names))
    if len(below) == len(names) + 1 and below[-1].strip() and not numbers:
        names = ["", *names]  # as R writes row names
    count = [str(k) for k in range(len(names))]
    counted = names in (count, ["", *count[:-1]])
    remark = _remark(comments[-1].strip(), cut) if comments and comments[-1].startswith("#") else []
    if header is not False and numbers and len(remark) == len(names):  # as numpy.savetxt writes its header
        return Sheet(remark, True, False, len(comments) - 1, itertools.chain([(len(comments) + 1, top)], rows))
    if header is None and numbers and not counted and _is_scale(names, below):
        raise ValueError(
            f"{path}: the first line, {', '.join(names)[:80]}, may name the columns or be a row: say "
            "--reading.table.header true or false"
        )
    if counted or not numbers if header is None else header:
        return Sheet(names, True, counted, len(comments), rows)
    return Sheet(count, False, False, len(comments), itertools.chain([(len(comments) + 1, top)], rows))


class _Cut:
    """Lines cut into fields, each with its number from 1."""

    def __init__(self, delimiter: str | None) -> None:
        self.delimiter = delimiter

    def __call__(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        if self.delimiter is None:
            yield from ((k, line.split()) for k, line in enumerate(lines, 1))
            return
        reader = csv.reader(lines, delimiter=self.delimiter)
        for fields in reader:
            yield reader.line_num, fields


def _cut(first: str, second: str, usual: str) -> _Cut:
    """By what separates most fields of the first line; by spaces if nothing else does, and these separate numbers."""
    delimiter = usual[0] if usual[0] == "\t" and "\t" in first else max(usual, key=first.count)
    if delimiter in first:
        return _Cut(delimiter)
    numbers = (second if second.strip() else first).split()
    return _Cut(None if len(numbers) > 1 and all(map(_is_value, numbers)) else ",")


def _remark(line: str, cut: _Cut) -> list[str]:
    return [name.strip() for name in next(cut((line.lstrip("# "),)), (0, list[str]()))[1]]


def _is_value(text: str) -> bool:
    """Whether a field is a number, or a word for one or for none."""
    return text.strip().casefold() in MISSING | FLAGS.keys() or _is_number(text)


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def _is_scale(names: Sequence[str], below: Sequence[str]) -> bool:
    """Whether numbers are such as name columns, wavelengths or years, above others that are not: whole and rising."""
    rising = len(names) > 2 and all(name.isdecimal() for name in names)
    rising = rising and all(int(one) < int(other) for one, other in itertools.pairwise(names))
    return rising and not all(text.strip().isdecimal() for text in below)
