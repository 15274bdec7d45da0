"""Data from NumPy's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield._unpacking import named, read_head, read_npy, read_npz
from scorefield.data.dataset import ArrayDataset
from scorefield.data.stored import IN_MEMORY, Stored


def load_arrays(path: str | Path, levels: int | None = None, most: float | None = None) -> ArrayDataset:
    """Reads `.npy`, or `.npz` with the array `x` and if there are any `labels` (n,) and `cond` (n, features).

    8-bit integers are discrete data of 256 levels, booleans of 2; floating-point numbers are continuous. Pickled
    objects are refused. Of a .npy file of more than a gigabyte only the rows that are asked for are read.

    Args:
        path: the file.
        levels: integers of any width are discrete data of the values 0 .. levels - 1.
        most: bytes that arrays may take which are read into memory; by default what the machine has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds no such arrays, or other values, or more than it may.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: wanted a .npy or .npz file, got {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".npy" and path.stat().st_size > IN_MEMORY and (x := _stored(path)) is not None:
        return ArrayDataset(x, levels=levels or (256 if x.dtype == torch.uint8 else None), name=str(path))
    arrays = {"x": read_npy(path, most)} if path.suffix == ".npy" else read_npz(path, most)
    arrays = {"x": arrays["arr_0"]} if list(arrays) == ["arr_0"] else arrays
    unknown = set(arrays) - {"x", "labels", "cond"}
    if "x" not in arrays or unknown:
        raise ValueError(f"{path}: wanted the array 'x' and if you like 'labels' and 'cond'; got {sorted(arrays)}")
    x, levels = _values(arrays["x"], levels, path)
    label = arrays.get("labels")
    if label is not None and label.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be integers; got {label.dtype}")
    cond = arrays.get("cond")
    if cond is not None and cond.dtype.kind not in "biuf":
        raise ValueError(f"{path}: cond must hold real numbers; got {cond.dtype}")
    return ArrayDataset(
        x,
        None if label is None else torch.from_numpy(label.astype(np.int64)),
        None if cond is None else real_conditions(cond),
        levels,
        name=str(path),
    )


def real_conditions(cond: NDArray[np.generic]) -> Tensor:
    """Conditions (n, ...), numbers (n,) as (n, 1), in float32.

    In float64 where that is too coarse for what tells them apart: seconds since 1970.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.atleast_1d(cond)
        mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    coarse = bool(((std > 0) & (np.abs(mean) > 1024 * std)).any())
    cond = cond[:, None] if cond.ndim == 1 else cond
    return torch.from_numpy(_as_type(cond, np.float64 if coarse else np.float32))


def _stored(path: Path) -> Stored | None:
    """The array in a .npy file as it lies there, if it is of a type and order that rows can be read from."""
    with named(path), path.open("rb") as file:
        head = read_head(file)
        if head.fortran or not head.shape or head.dtype.name not in ("uint8", "float32", "float64"):
            return None
        return Stored(file, head.offset, head.shape, head.dtype)


def _values(x: NDArray[np.generic], levels: int | None, path: Path) -> tuple[Tensor, int | None]:
    if x.ndim == 0:
        raise ValueError(f"{path}: wanted an array of shape (n, ...); got a single number")
    if levels is not None and x.dtype.kind in "biu":
        if x.size and (int(x.min()) < 0 or int(x.max()) >= min(levels, 2**31)):  # which the new type would hide
            raise ValueError(f"{path}: wanted integers from 0 to {levels - 1}; got {x.min()} to {x.max()}")
        return torch.from_numpy(x.astype(np.uint8 if levels <= 256 else np.int32)), levels
    if x.dtype == np.bool_:
        return torch.from_numpy(x.astype(np.uint8)), 2
    if x.dtype == np.uint8:
        return torch.from_numpy(x), 256
    if x.dtype.kind == "f":
        return torch.from_numpy(_as_type(x, np.float64 if x.dtype.itemsize >= 8 else np.float32)), levels
    raise ValueError(
        f"{path}: wanted 8-bit integers or booleans (discrete data) or floating-point numbers (continuous data); "
        f"got {x.dtype}: say how many values such integers take, --reading.levels 4096, or convert with .astype"
    )


def _as_type(x: NDArray[np.generic], dtype: type[np.floating]) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):  # to infinity, which a data set refuses with a better message
        return x.astype(dtype)
