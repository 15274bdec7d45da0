"""HDF5 by h5py: arrays by their paths in the file; fastMRI's k-space, and ISMRMRD's in `ismrmrd.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scorefield._files import write_file
from scorefield._memory import check_unpacked
from scorefield.data.formats import ismrmrd
from scorefield.data.formats.contract import Format, Opened, Unread, Variable, by_runs, word

# what the library has in itself; for any other it would load a program from a folder of plugins
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
RATIO = 1032  # bytes that gzip makes one of at most
SLACK = 4096  # bytes for which that is not asked: a small array that was never written is said
MOST = 100_000  # groups and arrays of a file


def opened(path: Path, most: float | None) -> Opened:
    """The arrays of numbers in a file."""
    import h5py

    file = h5py.File(path, "r")
    found: list[Variable] = []
    left: list[str] = []
    for name, thing in walk(file):
        if isinstance(thing, str):
            left.append(f"{name}: {thing}")
        elif ismrmrd.is_acquisitions(thing):
            check_there(name, thing)
            found.append(ismrmrd.kspace(name, thing, most))
        elif (dtype := numbers_of(thing)) is None:
            left.append(f"{name}: no numbers")
        elif thing.shape:
            found.append(variable(name, thing, dtype, most))
    return Opened(found, tuple(left[:8]) + ((f"{len(left) - 8} more that are no arrays",) if len(left) > 8 else ()))


def walk(file: Any) -> Iterator[tuple[str, Any]]:
    """(name, array) of all in a file, or (name, why it is not read); links are not followed: they could lead out.

    Raises:
        Unread: there are more than MOST.
    """
    import h5py

    waiting, seen = [("", file)], {file.id.__hash__()}
    count = 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            full = f"{prefix}{name}"
            if (count := count + 1) > MOST:
                raise Unread(f"holds more than {MOST:,} arrays: put the samples into one, with a row for each")
            try:
                link = group.get(name, getlink=True)
                thing = group[name] if isinstance(link, h5py.HardLink) else None
            except (TypeError, KeyError):
                link = thing = None
            if isinstance(link, h5py.SoftLink):
                continue  # to what has a name of its own in this file, or none
            if thing is None:
                yield full, "a link to another file, which is not followed"
            elif isinstance(thing, h5py.Dataset):
                yield full, thing
            elif isinstance(thing, h5py.Group) and hash(thing.id) not in seen:
                seen.add(hash(thing.id))
                waiting.append((f"{full}/", thing))


def numbers_of(dataset: Any) -> np.dtype | None:
    """The dtype of an array's numbers, None if it holds none."""
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError):  # there is none in NumPy
        return None
    return dtype if dtype.kind in "biufc" and dataset.shape is not None else None


def variable(name: str, dataset: Any, dtype: np.dtype, most: float | None) -> Variable:
    """An array of a file."""
    check_there(name, dataset)
    block = chunk_rows(name, dataset, most)

    def read(start: int, stop: int) -> NDArray[Any]:
        return dataset[start:stop]

    said = (f"in {units}",) if (units := attribute(dataset, "units")) else ()
    missing = unwritten(dataset)
    return Variable(
        name, dataset.shape, dtype, by_runs(read), (missing,) if missing else (), said, block, refused_for(dataset)
    )


def check_there(name: str, dataset: Any) -> None:
    """Refuses an array that claims far more numbers than there can be in the bytes that the file has of it."""
    claimed, have = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if claimed > RATIO * (have + SLACK) and not (dataset.is_virtual or dataset.external):
        raise ValueError(f"{name} claims {claimed} bytes, of which the file holds {have}")


def chunk_rows(name: str, dataset: Any, most: float | None) -> int:
    """Rows that are packed together, along the first axis."""
    if dataset.chunks is None:
        return 1
    check_unpacked(math.prod(dataset.chunks) * dataset.dtype.itemsize, f"{name}: a chunk of {dataset.chunks}", most)
    return dataset.chunks[0]


def refused_for(dataset: Any) -> str:
    """Why an array is not read: what lies in other files, or is packed by what is no part of HDF5."""
    if dataset.is_virtual or dataset.external:
        return "has its numbers in other files, which are not opened: copy it into one, h5py: f['y'] = f['x'][:]"
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    if strange := [number for number in filters if number not in FILTERS]:
        return f"is packed by the filter {strange[0]}, which is no part of HDF5: h5repack -f GZIP=4 in.h5 out.h5"
    return ""


def unwritten(dataset: Any) -> str:
    """How much of an array has no numbers in the file, in words."""
    if not dataset.size or dataset.is_virtual or dataset.external:
        return ""
    if dataset.chunks is None:
        return "" if dataset.id.get_storage_size() else f"never written: all {dataset.fillvalue}"
    every = math.prod(-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    missing = every - dataset.id.get_num_chunks()
    return f"{missing} of {every} chunks never written: {dataset.fillvalue} there" if missing else ""


def attribute(thing: Any, name: str) -> str:
    """A short text that is kept with an array, if it is there."""
    try:
        value = thing.attrs.get(name)
    except (OSError, TypeError):
        return ""
    return word(value) if isinstance(value, str | bytes) else ""


def write_hdf5(x: Tensor, out: Path, like: Path | None) -> None:
    """Writes samples as the array `x`.

    Args:
        x: (n, *event).
        out: .h5 file.
        like: HDF5 file of one array, whose name and attributes of texts and numbers are taken over.
    """
    import h5py

    name, attributes = "x", dict[str, Any]()
    if like is not None:
        with h5py.File(like, "r") as file:
            arrays = [(name, one) for name, one in walk(file) if not isinstance(one, str) and numbers_of(one)]
            if len(arrays) != 1:
                raise ValueError(f"--like {like}: wanted a file of one array; it has {len(arrays)}")
            name = arrays[0][0]
            attributes = {key: value for key, value in arrays[0][1].attrs.items() if not isinstance(value, h5py.Empty)}

    def write(target: BinaryIO) -> None:
        with h5py.File(target, "w") as file:
            array = file.create_dataset(name, data=x.cpu().numpy())
            for key, value in attributes.items():
                if np.asarray(value).dtype.kind in "biufcSU" or isinstance(value, str):
                    array.attrs[key] = value

    write_file(out, write)


HDF5 = Format("HDF5", "arrays", (".h5", ".hdf5", ".he5", ".hdf", ".mrd"), opened)
