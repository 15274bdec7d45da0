"""The rows of an array in some files, as those of one data set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Unread, Variable
from scorefield.data.formats.numbers import Numbers
from scorefield.data.stored import CHANGED, IN_MEMORY, Lazy, gather_blocks, identity_of, row_numbers

OPEN = 16  # files of a folder that are kept open
APIECE = 1 << 20  # bytes that are unpacked for one row, if need be; where it is more, all rows are unpacked once
TOGETHER = 1 << 24  # bytes that are read at a time


class Part(NamedTuple):
    """A file, how many rows it has, and what tells it from any other."""

    path: Path
    rows: int
    identity: tuple[int, ...]


class FileRows:
    """An array (n, *event): the rows of some files, one file behind the other. It is pickled by their names.

    Args:
        form: of the files.
        variable: opens the array in one of them.
        parts: the files.
        event: shape of a row in a file.
        numbers: what the numbers become.
        turn: (k, *event) of a file's rows with their axes in the order of a data set.
    """

    def __init__(
        self,
        form: Format,
        variable: Callable[[Path], Variable],
        parts: Sequence[Part],
        event: tuple[int, ...],
        numbers: Numbers,
        turn: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self._form, self._variable, self._parts, self._event = form, variable, parts, event
        self._numbers, self._turn = numbers, turn
        self._starts = np.cumsum([0, *(part.rows for part in parts)])
        self._opened = functools.lru_cache(OPEN)(variable)
        self.shape = torch.Size((int(self._starts[-1]), *numbers.event(self._turned(np.empty((0, *event))).shape[1:])))
        self.dtype: torch.dtype = torch.from_numpy(np.empty(0, numbers.dtype)).dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int64[Tensor, "b"]) -> Tensor:
        """The rows of these indices.

        Raises:
            ValueError: a file has changed since it was opened first, is damaged, or has numbers that are not finite.
        """
        wanted, place = np.unique(row_numbers(index, len(self)).cpu().numpy(), return_inverse=True)
        found = np.empty((len(wanted), *self.shape[1:]), self._numbers.dtype)
        ends = np.searchsorted(wanted, self._starts)
        step = max(1, TOGETHER * len(found) // max(1, found.nbytes))  # rows at a time, which take little beside all
        for k, part in enumerate(self._parts):
            for start in range(int(ends[k]), int(ends[k + 1]), step):
                some = slice(start, min(start + step, int(ends[k + 1])))
                found[some] = self._read(part, wanted[some] - self._starts[k])
        return torch.from_numpy(found if np.array_equal(place, np.arange(len(found))) else found[place])

    def __reduce__(self) -> tuple[Any, ...]:
        return FileRows, (self._form, self._variable, self._parts, self._event, self._numbers, self._turn)

    def held(self, most: float | None, folder: Path | None) -> Tensor | Lazy:
        """The same in memory if it is less than a gigabyte; or in a temporary file if rows are not to be had alone."""
        whole = self.shape.numel() * self._numbers.dtype.itemsize
        row = whole // len(self)
        name = str(self._parts[0].path)
        check_unpacked(row, f"{name}: one row", most)
        block = max(self._opened(part.path).block for part in self._parts[:1])
        if whole > IN_MEMORY and block * row <= max(4 * row, APIECE):
            return self
        if whole <= IN_MEMORY:
            check_unpacked(whole, f"{name}: an array of shape {tuple(self.shape)}", most)
        blocks = self._blocks(row)
        return gather_blocks(blocks, len(self), self.shape[1:], name, folder, self._numbers.dtype)

    def _blocks(self, row: int) -> Iterator[NDArray[Any]]:
        """All rows in order, TOGETHER bytes at a time, or as many as are packed together."""
        for part in self._parts:
            block = self._opened(part.path).block
            step = block * max(1, TOGETHER // max(1, row * block))
            for start in range(0, part.rows, step):
                yield self._read(part, np.arange(start, min(start + step, part.rows)))

    def _turned(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self._turn is None else self._turn(values)

    def _read(self, part: Part, rows: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        """Rows of a file."""
        if identity_of(part.path) != part.identity:
            raise ValueError(f"{part.path} {CHANGED}")
        with self._form.reading(part.path):
            values = self._opened(part.path).rows(rows)
            if values.shape != (len(rows), *self._event):
                raise ValueError(f"it gives the shape {values.shape} for {len(rows)} rows of {self._event}")
            found = self._numbers(self._turned(values))
            if found.dtype.kind == "f" and not np.isfinite(found.sum(dtype=np.float64)):
                odd = ~np.isfinite(found.reshape(len(found), -1)).all(1)
                if odd.any():
                    some = ", ".join(map(str, rows[odd][:5])) + (", ..." if odd.sum() > 5 else "")
                    raise Unread(f"NaN, infinite or missing values in the rows {some}: fill or drop them first")
        return found
