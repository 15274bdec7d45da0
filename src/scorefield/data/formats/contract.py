"""What a format is: the arrays in a file, of which a library reads the rows that are asked for."""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield._memory import TooLarge
from scorefield.data.members import reason

RowsOf = Callable[[Int64[np.ndarray, "k"]], NDArray[Any]]


class Unread(ValueError):
    """A file is sound, as far as it was looked at, but of a kind that is not read: what and what to do instead."""


@dataclass(frozen=True)
class Variable:
    """An array in a file.

    Args:
        name: by which the option array chooses it.
        shape: (n, *event).
        dtype: of the numbers that `rows` gives.
        rows: (k, *event) of k rising, different indices.
        said: what the line says of it: units, scaling, what the file calls it.
        same: what all files of a folder must have in common, such as units and the directions of axes.
        block: rows that the file packs together.
        refused: why it cannot be read, if it cannot.
        placed: its axes are samples, channels and space, since the format says so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: RowsOf
    said: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    block: int = 1
    refused: str = ""
    placed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.dtype.newbyteorder("="))  # in which order bytes lie is the file's affair

    def __str__(self) -> str:
        return f"{self.name} {sides(self.shape)} {self.dtype}"


@dataclass(frozen=True)
class Opened:
    """What a file holds: arrays of numbers, and in words what else, which is left."""

    variables: Sequence[Variable]
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format, read by the library that is made for it.

    Args:
        name: of the format.
        extra: of scorefield, that installs the library.
        suffixes: of the names of its files.
        open: the arrays of a file, or of a folder that is one thing; imports its library, and may raise anything on
            damaged files. The bytes that it may take in memory are its second argument, None for what the machine has.
        folder: whether a folder is one of it.
    """

    name: str
    extra: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, float | None], Opened]
    folder: Callable[[Path], bool] | None = None

    @contextlib.contextmanager
    def reading(self, path: Path) -> Generator[None]:
        """Turns whatever the library raises, now or when rows are read, into a ValueError that names the file."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is wrong is looked for here, or raised by the library
                warnings.simplefilter("error", np.exceptions.ComplexWarning)  # of an imaginary part that is dropped
                yield
        except TooLarge:
            raise
        except Unread as error:
            raise ValueError(f"{path}: {error}") from error
        except ImportError as error:
            raise ValueError(
                f"{path}: reading {self.name} takes {error.name or 'a library'}: pip install 'scorefield[{self.extra}]'"
            ) from error
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise ValueError(
                f"{path}: cannot be read as {self.name} ({reason(error)}): get another copy of it"
            ) from error


class Held:
    """An open file, which is closed when nothing reads from it any more."""

    def __init__(self, file: Any) -> None:
        self.file = file
        weakref.finalize(self, file.close)


def by_runs(read: Callable[[int, int], NDArray[Any]]) -> RowsOf:
    """Rows of a file that is read in slices from one row to another."""

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        ends = np.flatnonzero(np.diff(index) != 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(index, ends)]
        parts = [read(*run) for run in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return rows


def raw_rows(
    path: Path, offset: int, shape: Sequence[int], dtype: np.dtype, turned: Callable[[NDArray[Any]], NDArray[Any]]
) -> RowsOf:
    """Rows that lie in a file one behind the other, as plain numbers.

    Args:
        path: the file.
        offset: bytes before the first row.
        shape: of the rows as they lie there.
        dtype: of the numbers there.
        turned: from (k, *row) as they lie there to (k, *event).

    Raises:
        ValueError: the file is shorter than that.
    """
    row = math.prod(shape[1:])
    have, wanted = path.stat().st_size - offset, shape[0] * row * dtype.itemsize
    if have < wanted:
        raise ValueError(f"it holds {have} bytes of numbers where its head claims {wanted}")

    def read(start: int, stop: int) -> NDArray[Any]:
        begin = offset + start * row * dtype.itemsize
        values = np.fromfile(path, dtype, (stop - start) * row, offset=begin)
        return turned(values.reshape(stop - start, *shape[1:]))

    return by_runs(read)


def check_inside(path: Path, folder: Path) -> None:
    """Refuses a link that leads out of a folder.

    Raises:
        Unread: it does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Unread(f"{path.name} is a link out of the folder, which is not followed: name what it leads to")


def sides(shape: Sequence[int]) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape)) or "one number"


def word(value: object, most: int = 60) -> str:
    """What a file says of itself, as printable text of one line."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:most]
