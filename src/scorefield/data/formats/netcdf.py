"""NetCDF by xarray: packed numbers with their scale and offset, those that are missing as NaN, which are refused."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.formats.contract import Format, Opened, Unread, Variable, by_runs, word
from scorefield.data.formats.hdf5 import chunk_rows, refused_for, unwritten, walk


def opened(path: Path, most: float | None) -> Opened:
    """The variables of a file that are no coordinates, with those of its groups."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\xcd\xf3":
        raise Unread("is CDF of NASA, another format: convert it to NetCDF")
    classic = head[:3] == b"CDF"
    notes: dict[str, tuple[str, int]] = {} if classic else _checked(path, most)
    import xarray as xr

    how: Any = {"decode_times": False, "decode_coords": "all", "cache": False}
    if classic:
        groups = {"/": xr.open_dataset(path, engine="scipy", **how)}
    else:
        groups = xr.open_groups(path, engine="h5netcdf", phony_dims="sort", **how)
    found: list[Variable] = []
    left: list[str] = []
    for group, data in groups.items():
        for key, values in data.data_vars.items():
            name = f"{group.strip('/')}/{key}".strip("/")
            if values.dtype.kind not in "biufc":
                left.append(f"{name}: no numbers")
            elif values.ndim:
                found.append(_variable(name, data, key, *notes.get(name, ("", 1))))
        coordinates = [str(name) for name in data.coords]
        left += [f"{group.strip('/')} coordinates {', '.join(coordinates)}".strip()] if coordinates else []
    return Opened(found, tuple(left))


def _checked(path: Path, most: float | None) -> dict[str, tuple[str, int]]:
    """What of each array was never written, and its rows in a chunk; refuses links and numbers in other files."""
    import h5py

    notes: dict[str, tuple[str, int]] = {}
    with h5py.File(path, "r") as file:
        for name, thing in walk(file):
            if isinstance(thing, str):
                raise Unread(f"{name} is {thing}: copy what it leads to into the file")
            if why := refused_for(thing):
                raise Unread(f"{name} {why}")
            if thing.shape:
                notes[name] = unwritten(thing), chunk_rows(name, thing, most)
    return notes


def _variable(name: str, data: Any, key: Hashable, missing: str, block: int) -> Variable:
    values = data[key]
    packed, axes = values.encoding, values.dims
    picture = values.ndim == 3  # time, and two axes of space

    def read(start: int, stop: int) -> NDArray[Any]:
        rows = np.asarray(values[{axes[0]: slice(start, stop)}].values)
        return rows[:, None] if picture else rows

    shape = (values.shape[0], 1, *values.shape[1:]) if picture else values.shape
    said = [f"axes {', '.join(word(axis) for axis in axes)}"]
    if "scale_factor" in packed or "add_offset" in packed:
        scale, offset = packed.get("scale_factor", 1), packed.get("add_offset", 0)
        said.append(f"packed as {packed.get('dtype')}: x {scale:g} + {offset:g}")
    if fill := [str(packed[word_]) for word_ in ("_FillValue", "missing_value") if word_ in packed]:
        said.append(f"{' and '.join(fill)} are missing")
    if odd := [attr for attr in ("valid_range", "valid_min", "valid_max") if attr in values.attrs]:
        said.append(f"{', '.join(odd)} not applied")
    said += [missing] if missing else []
    units = values.attrs.get("units")
    same = (f"in {word(units)}",) if isinstance(units, str) else ()
    return Variable(name, shape, values.dtype, by_runs(read), tuple(said), same, block)


NETCDF = Format("NetCDF", "arrays", (".nc", ".nc4", ".cdf"), opened)
