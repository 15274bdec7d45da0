"""MATLAB's .mat files: 4 to 7 by SciPy, 7.3 by h5py. Their axes are MATLAB's.

A matrix has a row for each sample. Of three and more axes the last, which is the outermost in the file, counts samples:
h x w x n are (n, 1, h, w), and h x w x c x n are (n, c, h, w), as pictures and k-space are kept there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Opened, Variable, by_runs, sides
from scorefield.data.formats.hdf5 import attribute, chunk_rows, numbers_of, refused_for, walk

SIZES = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "single": 4, "logical": 1}
NUMBERS = {*SIZES, "int64", "uint64", "double"}
CLASSES = {"single": "float32", "double": "float64", "logical": "bool"}
PACKED = 1032  # bytes that zlib makes one of at most


def opened(path: Path, most: float | None) -> Opened:
    """The arrays of numbers in a file of any version."""
    with path.open("rb") as file:
        head = file.read(520)
    return _opened_73(path, most) if b"\x89HDF\r\n\x1a\n" in head else _opened_5(path, most)


def _opened_5(path: Path, most: float | None) -> Opened:
    from scipy.io import loadmat, whosmat

    found: list[Variable] = []
    left: list[str] = []
    have, wanted = path.stat().st_size * PACKED, 0
    for name, shape, kind in whosmat(path):
        if kind not in NUMBERS or name.startswith("__"):
            left.append(f"{name}: {kind}")
            continue
        count = math.prod(shape)
        if count > have:
            raise ValueError(f"{name} claims the shape {shape} in a file of {path.stat().st_size} bytes")
        wanted += count * SIZES.get(kind, 8)
        check_unpacked(wanted, f"{path}: {name} of {shape}", most)
        values = loadmat(path, variable_names=[name])[name]  # the list does not say what is complex
        if values.dtype.kind != "c":  # numbers of few digits are kept in fewer bytes than they have in MATLAB
            values = values.astype(CLASSES.get(kind, kind))
        if values.shape != shape:
            raise ValueError(f"{name} has the shape {values.shape}, its head {shape}")

        def rows(index: Int64[np.ndarray, "k"], values: NDArray[Any] = values) -> NDArray[Any]:
            rank = values.ndim
            return _turned(values[index] if rank < 3 else values[..., index], rank)

        found.append(_variable(name, shape, values.dtype, rows, shape[_samples(len(shape))]))
    return Opened(found, tuple(left))


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


def _variable(name: str, shape: Sequence[int], dtype: np.dtype, rows: Any, block: int, refused: str = "") -> Variable:
    rank = len(shape)
    said = (f"MATLAB's {sides(shape)}, of which the last counts samples",) if rank > 2 else ()
    event = shape[1:] if rank < 3 else (1, *shape[:2]) if rank == 3 else (shape[-2], *shape[:-2])
    return Variable(name, (shape[_samples(rank)], *event), dtype, rows, said, (), max(1, block), refused)


MATLAB = Format("MATLAB", "arrays", (".mat",), opened)
