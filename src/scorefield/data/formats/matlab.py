"""MATLAB's .mat files: 4 by SciPy, 5 to 7 by `matlab_5.py`, 7.3 by h5py. Their axes are MATLAB's.

A matrix has a row for each sample. Of three and more axes the last, which is the outermost in the file, counts samples:
h x w x n are (n, 1, h, w), and h x w x c x n are (n, c, h, w), as pictures and k-space are kept there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield._unpacking import check_different
from scorefield.data.formats.contract import Format, Opened, RowsOf, Variable, by_runs, sides
from scorefield.data.formats.hdf5 import attribute, check_there, chunk_rows, numbers_of, refused_for, walk
from scorefield.data.formats.matlab_5 import arrays_5, values_5

NUMBERS = {"logical", "single", "double", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def opened(path: Path, most: float | None) -> Opened:
    """The arrays of numbers in a file of any version."""
    with path.open("rb") as file:
        head = file.read(520)
    if b"\x89HDF\r\n\x1a\n" in head:
        return _opened_73(path, most)
    return _opened_4(path, most) if 0 in head[:4] else _opened_5(path, most)  # a text begins with four letters


def _opened_4(path: Path, most: float | None) -> Opened:
    from scipy.io import loadmat, whosmat

    check_unpacked(path.stat().st_size, f"{path}: its arrays", most)  # which are not packed
    for name, shape, _ in whosmat(path):
        if math.prod(shape) > path.stat().st_size:
            raise ValueError(f"{name} claims the shape {shape} in a file of {path.stat().st_size} bytes")
    found: list[Variable] = []
    left: list[str] = []
    for name, values in loadmat(path, mat_dtype=False).items():
        if isinstance(values, np.ndarray) and values.dtype.kind in "biufc":
            found.append(_variable(name, values.shape, values.dtype, _rows_of(partial(np.asarray, values))))
        elif not name.startswith("__"):
            left.append(f"{name}: no array of numbers")
    return Opened(found, tuple(left))


def _opened_5(path: Path, most: float | None) -> Opened:
    found: list[Variable] = []
    left: list[str] = []
    for array in arrays_5(path):
        if array.kind:
            left.append(f"{array.name or 'without a name'}: {array.kind}")
            continue
        size = math.prod(array.shape) * array.dtype.itemsize
        check_unpacked(size, f"{path}: {array.name} of {array.shape}", most)
        found.append(_variable(array.name, array.shape, array.dtype, _rows_of(partial(values_5, path, array))))
    check_different(one.name for one in found)
    return Opened(found, tuple(left))


def _rows_of(whole: Callable[[], NDArray[Any]]) -> RowsOf:
    """Rows of what is read as a whole, when the first are asked for."""
    kept = functools.cache(whole)

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        values = kept()
        return _turned(values[index] if values.ndim < 3 else values[..., index], values.ndim)

    return rows


def _opened_73(path: Path, most: float | None) -> Opened:
    import h5py

    file = h5py.File(path, "r")
    found: list[Variable] = []
    left: list[str] = []
    for name, thing in walk(file):
        kind = "" if isinstance(thing, str) else attribute(thing, "MATLAB_class")
        if name.startswith(("#refs#", "#subsystem#")):
            continue
        if isinstance(thing, str) or kind not in NUMBERS or "MATLAB_empty" in thing.attrs:
            left.append(f"{name}: {thing if isinstance(thing, str) else kind or 'no array of MATLAB'}")
            continue
        dtype = _dtype_73(thing, kind)
        if dtype is None:
            left.append(f"{name}: no numbers")
            continue
        check_there(name, thing)
        chunk_rows(name, thing, most)
        shape = thing.shape[::-1]  # HDF5 has MATLAB's axes the other way round
        block = 1 if thing.chunks is None else thing.chunks[0 if len(shape) > 2 else -1]

        def read(start: int, stop: int, thing: Any = thing, dtype: np.dtype = dtype) -> NDArray[Any]:
            rank = thing.ndim
            values = thing[start:stop] if rank > 2 else thing[..., start:stop]
            values = values.astype(dtype) if dtype.kind == "b" else values.view(dtype) if dtype.kind == "c" else values
            return _turned(values.T, rank)

        found.append(_variable(name, shape, dtype, by_runs(read), block, refused_for(thing)))
    return Opened(found, tuple(left))


def _dtype_73(thing: Any, kind: str) -> np.dtype | None:
    """Of an array's numbers: complex ones are pairs there."""
    try:
        dtype = thing.dtype
    except TypeError:
        return None
    if dtype.names == ("real", "imag") and dtype["real"] == dtype["imag"] and dtype["real"].kind == "f":
        return np.result_type(dtype["real"], np.complex64)
    return np.dtype(bool) if kind == "logical" else numbers_of(thing)


def _samples(rank: int) -> int:
    """The axis that counts samples."""
    return 0 if rank < 3 else -1


def _turned(values: NDArray[Any], rank: int) -> NDArray[Any]:
    """(n, *event) of MATLAB's axes: (n, d), (h, w, n), (h, w, c, n), ..."""
    if rank < 3:
        return values
    return np.moveaxis(values, -1, 0)[:, None] if rank == 3 else np.moveaxis(values, (-1, -2), (0, 1))


def _variable(
    name: str, shape: Sequence[int], dtype: np.dtype, rows: RowsOf, block: int | None = None, refused: str = ""
) -> Variable:
    """An array of MATLAB's axes; it is packed as a whole unless it is said how many rows are together."""
    rank = len(shape)
    count = shape[_samples(rank)]
    said = (f"MATLAB's {sides(shape)}, of which the last counts samples",) if rank > 2 else ()
    event = shape[1:] if rank < 3 else (1, *shape[:2]) if rank == 3 else (shape[-2], *shape[:-2])
    return Variable(
        name, (count, *event), dtype, rows, said, (), max(1, count if block is None else block), refused, True
    )


MATLAB = Format("MATLAB", "arrays", (".mat",), opened)
