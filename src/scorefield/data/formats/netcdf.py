"""NetCDF, as xarray understands it: packed numbers with their scale and offset, missing ones as NaN, which are refused.

Rows come straight from the file, by h5py of NetCDF 4 and by SciPy of NetCDF 3, and xarray decodes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield.data.formats.contract import Format, Opened, RowsOf, Unread, Variable, by_runs, word
from scorefield.data.formats.hdf5 import check_there, chunk_rows, refused_for, unwritten, walk

DEFAULTS = {  # what stands for numbers that were never written, of each type that has such (netcdf.h); xarray has not
    "i2": -32767,
    "u2": 65535,
    "i4": -2147483647,
    "u4": 4294967295,
    "i8": -9223372036854775806,
    "u8": 18446744073709551614,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
MARKS = "_FillValue", "missing_value"
TOGETHER = 256  # rows for which a file of NetCDF 3 is mapped into memory


def opened(path: Path, most: float | None) -> Opened:
    """The variables of a file that are no coordinates, with those of its groups."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\xcd\xf3":
        raise Unread("is CDF of NASA, another format: convert it to NetCDF")
    classic = head[:3] == b"CDF"
    arrays: dict[str, Any] = {} if classic else _checked(path)
    import xarray as xr

    how: Any = {"decode_times": False, "mask_and_scale": False, "decode_coords": "all", "cache": False}
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
                none = np.empty((0, *values.shape[1:]), values.dtype)
                fill = {mark: values.encoding[mark] for mark in MARKS if mark in values.encoding}
                plain = xr.Variable(values.dims, none, {**values.attrs, **fill})
                if classic:
                    found.append(_variable(name, plain, len(values), _mapped(path, name)))
                else:
                    how_packed = chunk_rows(name, arrays[name], most), unwritten(arrays[name])
                    found.append(_variable(name, plain, len(values), by_runs(_slices(arrays[name])), *how_packed))
        coordinates = [str(name) for name in data.coords]
        left += [f"{group.strip('/')} coordinates {', '.join(coordinates)}".strip()] if coordinates else []
        data.close()
    return Opened(found, tuple(left))


def _checked(path: Path) -> dict[str, Any]:
    """The arrays of a file of NetCDF 4, which is HDF5; refuses links and numbers in other files."""
    import h5py

    arrays: dict[str, Any] = {}
    for name, thing in walk(h5py.File(path, "r")):
        if isinstance(thing, str):
            raise Unread(f"{name} is {thing}: copy what it leads to into the file")
        if why := refused_for(thing):
            raise Unread(f"{name} {why}")
        check_there(name, thing)
        arrays[name] = thing
    return arrays


def _slices(array: Any) -> Any:
    def read(start: int, stop: int) -> NDArray[Any]:
        return array[start:stop]

    return read


def _mapped(path: Path, name: str) -> RowsOf:
    """Rows of a file of NetCDF 3, whose pages leave memory again."""
    from scipy.io import netcdf_file

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        parts: list[NDArray[Any]] = []
        for some in np.split(index, range(TOGETHER, len(index), TOGETHER)):
            with netcdf_file(path, mmap=True) as file:
                parts.append(np.array(file.variables[name].data[some]))
        return np.concatenate(parts)

    return rows


def _variable(name: str, plain: Any, count: int, raw: RowsOf, block: int = 1, missing: str = "") -> Variable:
    """A variable of a file.

    Args:
        name: with those of its groups.
        plain: without its rows, as the file has it.
        count: of the rows.
        raw: the rows, as the file has them.
        block: rows that are packed together.
        missing: how much was never written.
    """
    axes, about = plain.dims, plain.attrs
    picture = plain.ndim == 3  # time, and two axes of space
    dtype = _decoded(name, axes, plain.values, about).dtype
    mark = _mark(name, plain)

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        values = _decoded(name, plain.dims, raw(index), plain.attrs)
        if mark is not None and (never := values == mark).any():
            if values.dtype.kind != "f":
                raise Unread(f"holds {mark}, which stands for numbers that were never written: fill or drop those rows")
            values = np.where(never, np.nan, values)
        return values[:, None] if picture else values

    said = [f"axes {', '.join(word(axis) for axis in axes)}"]
    if "scale_factor" in about or "add_offset" in about:
        said.append(f"packed as {plain.dtype}: x {about.get('scale_factor', 1):g} + {about.get('add_offset', 0):g}")
    if fill := [word(about[each]) for each in MARKS if each in about]:
        said.append(f"{' and '.join(dict.fromkeys(fill))} are missing")
    if odd := [attr for attr in ("valid_range", "valid_min", "valid_max") if attr in about]:
        said.append(f"{', '.join(odd)} not applied")
    said += [missing] if missing else []
    same = (f"in {word(about['units'])}",) if isinstance(about.get("units"), str) else ()
    shape = (count, 1, *plain.shape[1:]) if picture else (count, *plain.shape[1:])
    return Variable(name, shape, dtype, rows, tuple(said), same, block, placed=picture)


def _decoded(name: str, axes: Any, values: NDArray[Any], about: Any) -> NDArray[Any]:
    """What the numbers of a file mean: scaled, with NaN for what is missing."""
    import xarray as xr
    from xarray.conventions import decode_cf_variable

    return np.asarray(decode_cf_variable(name, xr.Variable(axes, values, about), decode_times=False).values)


def _mark(name: str, plain: Any) -> Any:
    """What numbers that were never written come as, if the file does not say what stands for them."""
    default = DEFAULTS.get(plain.dtype.str[1:])
    if default is None or set(MARKS) & set(plain.attrs):
        return None
    return _decoded(name, ("n",), np.array([default], plain.dtype), plain.attrs)[0]


NETCDF = Format("NetCDF", "arrays", (".nc", ".nc4", ".cdf"), opened)
