"""Data from NumPy's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield._unpacking import named, read_head, read_npy, read_npz
from scorefield.data.axes import arranged, check_axes, likely_axes
from scorefield.data.dataset import ArrayDataset
from scorefield.data.found import counted
from scorefield.data.levels import as_levels, hint
from scorefield.data.stored import IN_MEMORY, Stored

# names of (samples, labels) in .npz files: of the training, of what is held out, of what is left
OWN = (("x", "labels"),)
ADM = (("arr_0", "arr_1"),)  # also those of numpy.savez without names
MEDMNIST = tuple((f"{part}_images", f"{part}_labels") for part in ("train", "val", "test"))
KERAS = (("x_train", "y_train"), ("x_test", "y_test"))


def load_arrays(
    path: str | Path, levels: int | None = None, most: float | None = None, axes: str | None = None
) -> ArrayDataset:
    """Reads `.npy`, or `.npz` with the array `x` and if there are any `labels` (n,) and `cond` (n, features).

    The arrays of an .npz may also have the names that MedMNIST (train_images, train_labels, ...), Keras (x_train,
    y_train, ...) or ADM (arr_0, arr_1) give them; labels in several columns are conditions.

    8-bit integers are discrete data of 256 levels, booleans of 2; floating-point numbers are continuous, see
    `as_levels`. Pickled objects are refused. Of a .npy file of more than a gigabyte only the rows that are asked for
    are read.

    Args:
        path: the file.
        levels: integers of any width are discrete data of the values 0 .. levels - 1.
        most: bytes that arrays may take which are read into memory; by default what the machine has.
        axes: of the samples' array, a letter for each: n samples, c channels, and h w, d h w or l of space. By default
            samples, then channels, then space, if the shape does not look like another order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds no such arrays, or other values or axes, or more than it may.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: wanted a .npy or .npz file, got {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    axes = None if axes is None else check_axes(axes)
    if suffix == ".npy" and path.stat().st_size > IN_MEMORY and (x := _stored(path, axes)) is not None:
        return ArrayDataset(x, levels=levels or (256 if x.dtype == torch.uint8 else None), name=str(path))
    return _of(read_npy(path, most), path, levels, axes) if suffix == ".npy" else _of_named(path, levels, most, axes)


def real_conditions(cond: NDArray[np.generic]) -> Tensor:
    """Conditions in float32, or in float64 where that is too coarse for what tells them apart: seconds since 1970."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.atleast_1d(cond)
        mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        coarse = bool(((std > 0) & (np.abs(mean) > 1024 * std)).any())
        return torch.from_numpy(cond.astype(np.float64 if coarse else np.float32))


def _stored(path: Path, axes: str | None) -> Stored | None:
    """The array in a .npy file as it lies there, if it is of a type and order that rows can be read from."""
    with named(path), path.open("rb") as file:
        head = read_head(file)
        if head.fortran or not head.shape or head.dtype.name not in ("uint8", "float32", "float64"):
            return None
        axes = axes or likely_axes(head.shape, str(path))
        return None if axes[:1] not in ("n", "") else Stored(file, head.offset, head.shape, head.dtype, axes)


def _of_named(path: Path, levels: int | None, most: float | None, axes: str | None) -> ArrayDataset:
    arrays = read_npz(path, most)
    layout = next((kind for kind in (OWN, MEDMNIST, KERAS, ADM) if kind[0][0] in arrays), None)
    unknown = set(arrays) - {name for names in layout or () for name in names} - {"cond"}
    if layout is None or unknown or ("cond" in arrays and layout is not OWN):
        raise ValueError(
            f"{path}: wanted the array 'x' and if you like 'labels' and 'cond', or the names of MedMNIST, Keras or "
            f"ADM; got {sorted(arrays)}"
        )
    parts = [names for names in layout if names[0] in arrays]
    x = np.concatenate([arrays[name] for name, _ in parts[:2]]) if len(parts) > 1 else arrays[parts[0][0]]
    count = [len(np.atleast_1d(arrays[name])) for name, _ in parts[:2]]
    label = _joined(arrays, parts[:2])
    cond = arrays.get("cond")
    if label is not None and label.ndim == 2 and layout is not OWN:
        label, cond = (label[:, 0], cond) if label.shape[1] == 1 else (None, label)
    left = [counted(len(arrays[name]), "sample") + f" {name}" for name, _ in parts[2:]]
    held = np.arange(sum(count)) >= count[0] if len(parts) > 1 else None
    return _of(x, path, levels, axes or _usual_axes(layout, x), label, cond, held, left)


def _joined(arrays: Mapping[str, NDArray[Any]], parts: Sequence[tuple[str, str]]) -> NDArray[Any] | None:
    """The labels of parts, if all have any."""
    found = [arrays[name] for _, name in parts if name in arrays]
    return np.concatenate(found) if len(found) == len(parts) > 1 else found[0] if len(parts) == 1 and found else None


def _usual_axes(layout: Sequence[tuple[str, str]], x: NDArray[Any]) -> str | None:
    """The axes that arrays of these names have."""
    if layout is OWN or (layout is ADM and not (x.ndim == 4 and x.shape[3] == 3)):
        return None
    volume = layout is MEDMNIST and x.ndim == 4 and x.shape[3] not in (1, 3)
    return {2: "nc", 3: "nhw", 4: "ndhw" if volume else "nhwc"}.get(x.ndim)


def _of(
    x: NDArray[Any],
    path: Path,
    levels: int | None,
    axes: str | None,
    label: NDArray[Any] | None = None,
    cond: NDArray[Any] | None = None,
    held: NDArray[np.bool_] | None = None,
    left: Sequence[str] = (),
) -> ArrayDataset:
    if x.ndim == 0:
        raise ValueError(f"{path}: wanted an array of shape (n, ...); got a single number")
    if label is not None and label.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be integers; got {label.dtype}")
    if cond is not None and cond.dtype.kind not in "biuf":
        raise ValueError(f"{path}: cond must hold real numbers; got {cond.dtype}")
    values, levels = as_levels(x, levels, str(path))
    if axes := axes or likely_axes(x.shape, str(path)):
        values = arranged(values, axes)
    data = ArrayDataset(
        torch.from_numpy(np.ascontiguousarray(values)),
        None if label is None else torch.from_numpy(label.astype(np.int64)),
        None if cond is None else real_conditions(cond),
        levels,
        name=str(path),
        held=None if held is None else torch.from_numpy(held),
    )
    data.found = replace(data.found, left=tuple(left), otherwise=hint(x) if levels is None else ())
    return data
