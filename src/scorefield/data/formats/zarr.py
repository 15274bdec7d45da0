"""Zarr 2 and 3 in a folder, by zarr. What a store names as its packing is looked at before it is opened."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._files import new_directory
from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Opened, Unread, Variable, word

HEADS = "zarr.json", ".zarray", ".zgroup"
LARGEST_HEAD = 1 << 24  # bytes
CODECS = {  # none runs what a file holds, as numcodecs' pickle does
    *("bytes", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32"),
    *("blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2", "shuffle", "delta", "bitround"),
}


def is_store(path: Path) -> bool:
    """Whether a folder is an array or a group of Zarr."""
    return path.is_dir() and any((path / name).is_file() for name in HEADS)


def opened(path: Path, most: float | None) -> Opened:
    """The arrays of numbers in a store."""
    if not is_store(path):
        raise ValueError("it is no folder with zarr.json, .zarray or .zgroup")
    files = _checked(path)
    import zarr

    if _is_group(path):
        group: Any = zarr.open_group(str(path), mode="r", use_consolidated=False)
        arrays = sorted((name, thing) for name, thing in group.members(max_depth=None) if hasattr(thing, "dtype"))
    else:
        arrays = [(path.stem, zarr.open_array(str(path), mode="r"))]
    found: list[Variable] = []
    left: list[str] = []
    for name, array in arrays:
        if array.dtype.kind not in "biufc":
            left.append(f"{name}: no numbers")
        elif array.shape:
            found.append(_variable(name, array, files.get(_place(path, array), 0), most))
    return Opened(found, tuple(left))


def _is_group(path: Path) -> bool:
    if (path / "zarr.json").is_file():
        return json.loads((path / "zarr.json").read_text()).get("node_type") == "group"
    return (path / ".zgroup").is_file()


def _place(path: Path, array: Any) -> str:
    return str((path / array.path).resolve())


def _checked(path: Path) -> dict[str, int]:
    """How many files with numbers each array of a store has; refuses links out of it and unknown ways of packing.

    Raises:
        Unread: there are such.
    """
    root, count = path.resolve(), dict[str, int]()
    owner: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        own = folder if {".zarray", "zarr.json"} & set(files) else owner.get(str(Path(folder).parent), folder)
        owner[folder] = own
        for name in (*folders, *files):
            if os.path.islink(f"{folder}/{name}"):  # noqa: PTH114 - of a million files
                raise Unread(f"{name} is a link, which is not followed: copy the store with what its links lead to")
        for name in HEADS:
            if name in files:
                _check_head(Path(folder, name))
        count[own] = count.get(own, 0) + sum(not name.startswith(".") and name != "zarr.json" for name in files)
    return count


def _check_head(file: Path) -> None:
    if file.stat().st_size > LARGEST_HEAD:
        raise ValueError(f"{file.name} has {file.stat().st_size} bytes, of which {LARGEST_HEAD} are allowed")
    for codec in _codecs(json.loads(file.read_text())):
        plain = str(codec).removeprefix("numcodecs.")
        if plain not in CODECS:
            raise Unread(f"is packed by {word(codec)!r}: written again with zstd or blosc it can be read")


def _codecs(head: Any) -> Iterator[object]:
    """The names of all ways of packing in a head of either version."""
    if not isinstance(head, dict):
        return
    for key in ("codecs", "index_codecs", "filters", "compressor"):
        values = head.get(key) or []
        for value in values if isinstance(values, list) else [values]:
            yield (value.get("name") or value.get("id")) if isinstance(value, dict) else value
            yield from _codecs(value.get("configuration") if isinstance(value, dict) else None)


def _variable(name: str, array: Any, files: int, most: float | None) -> Variable:
    chunks = getattr(array, "shards", None) or array.chunks
    check_unpacked(math.prod(chunks) * array.dtype.itemsize, f"{name}: a chunk of {chunks}", most)

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        if index[-1] - index[0] + 1 == len(index):
            return np.asarray(array[int(index[0]) : int(index[-1]) + 1])
        return np.asarray(array.oindex[(index, *(slice(None),) * (array.ndim - 1))])

    every = math.prod(-(-side // chunk) for side, chunk in zip(array.shape, chunks, strict=True))
    said = [f"{every - files} of {every} chunks never written: {array.fill_value} there"] if files < every else []
    units = array.attrs.get("units")
    same = (f"in {word(units)}",) if isinstance(units, str) else ()
    return Variable(
        name, array.shape, array.dtype, rows, (f"version {array.metadata.zarr_format}", *said), same, array.chunks[0]
    )


def write_zarr(x: Tensor, out: Path, like: Path | None) -> None:
    """Writes samples as one array, each in a chunk of its own.

    Args:
        x: (n, *event).
        out: folder that ends in .zarr, which must not be there.
        like: store of one array, whose attributes and names of axes are taken over.
    """
    import zarr

    attributes: dict[str, Any] = {}
    names: Any = None
    if like is not None:
        model: Any = zarr.open_array(str(like), mode="r")
        attributes, names = dict(model.attrs), getattr(model.metadata, "dimension_names", None)
    values = x.cpu().numpy()
    with new_directory(out) as part:
        array: Any = zarr.create_array(
            str(part),
            shape=values.shape,
            chunks=(1, *values.shape[1:]),
            dtype=values.dtype,
            attributes=attributes,
            dimension_names=names if names and len(names) == values.ndim else None,
            overwrite=True,
        )
        array[:] = values


ZARR = Format("Zarr", "arrays", (".zarr",), opened, is_store)
