"""ISMRMRD's raw data of a scanner: lines of k-space in an HDF5 file, put where their heads say.

Inati et al. 2017, ISMRM Raw data format; flags and fields as of its ismrmrd.h.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Unread, Variable

# bits of the flags, counted from 1, of lines that are no part of a picture: noise, calibration alone, navigation, phase
# correction, feedback of a scanner, dummies, surface coils' correction, references of phase stabilisation
NO_PICTURE = sum(1 << (bit - 1) for bit in (19, 20, 23, 24, 26, 27, 28, 29, 30, 31))
REVERSED = 1 << (22 - 1)
MATRIX = re.compile(r"<encodedSpace>\s*<matrixSize>\s*<x>\d+</x>\s*<y>(\d{1,5})</y>\s*<z>(\d{1,5})</z>")
VARYING = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # of a list of numbers, in the file
SPARSEST = 64  # lines of k-space for one that is measured
SAMPLES = "slice", "contrast", "phase", "repetition", "set", "average"  # of the counters: each value is a sample


def is_acquisitions(dataset: Any) -> bool:
    """Whether it is ISMRMRD's table of lines."""
    try:
        return dataset.dtype.names is not None and {"head", "traj", "data"} <= set(dataset.dtype.names)
    except (TypeError, ValueError):  # of what NumPy has no type
        return False


class Heap:
    """What lists of varying length point to in a file of HDF5 ("HDF5 File Format Specification", III.E).

    HDF5 itself takes what a damaged file says of them on trust: it takes memory for it, or ends with the process.
    """

    def __init__(self, dataset: Any) -> None:
        self.path, self.base = Path(dataset.file.filename), dataset.file.userblock_size
        self._collection = functools.lru_cache(16)(self._read)

    def get(self, row: Any, itemsize: int) -> bytes:
        """The bytes of a list.

        Raises:
            ValueError: they are not there.
        """
        length = int(row["length"]) * itemsize
        found = self._collection(int(row["address"])).get(int(row["index"]), b"") if length else b""
        if len(found) < length:
            raise ValueError(f"a list claims {length} bytes, of which {len(found)} are there")
        return found[:length]

    def _read(self, at: int) -> dict[int, bytes]:
        """The lists of a collection by their numbers."""
        have = self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(min(self.base + at, have))
            head = file.read(16)
            size = int.from_bytes(head[8:], "little")
            if head[:4] != b"GCOL" or not 16 <= size <= have:
                raise ValueError(f"the heap at byte {at} is damaged")
            content = file.read(size - 16)
        found: dict[int, bytes] = {}
        place = 0
        while place + 16 <= len(content):
            index, size = (int.from_bytes(content[place + k : place + k + n], "little") for k, n in ((0, 2), (8, 8)))
            if not index:  # the rest is free
                break
            found[index] = content[place + 16 : place + 16 + size]
            place += 16 + size + -size % 8
        return found


def _table(dataset: Any) -> NDArray[Any]:
    """The heads of all lines, and where their numbers lie.

    Raises:
        Unread: the table is packed.
        ValueError: lines are missing.
    """
    import h5py

    if h5py.check_vlen_dtype(dataset.dtype["data"]) != np.float32:
        raise Unread("has lines of other numbers than float32")
    kind = dataset.id.get_type()
    known = {kind.get_member_name(k).decode(): k for k in range(kind.get_nmembers())}
    offsets = [kind.get_member_offset(known[name]) for name in ("head", "data")]
    lying: Any = {"names": ["head", "data"], "formats": [dataset.dtype["head"], VARYING], "offsets": offsets}
    rows = np.frombuffer(_bytes(dataset, kind.get_size()), np.dtype(lying | {"itemsize": kind.get_size()}))
    if len(rows) < len(dataset):
        raise ValueError(f"{len(rows)} lines are there of {len(dataset)}")
    return rows[: len(dataset)]


def _matrix(dataset: Any) -> tuple[int, int]:
    """Sides of k-space along the second and the first step, by the head in XML; 1 if that does not say."""
    import h5py

    if not isinstance(dataset.parent.get("xml", getlink=True), h5py.HardLink):
        return 1, 1
    head = dataset.parent["xml"]
    if not isinstance(head, h5py.Dataset) or head.shape != (1,) or head.dtype.kind != "O":
        return 1, 1
    text = Heap(head).get(np.frombuffer(_bytes(head, VARYING.itemsize), VARYING)[0], 1)
    found = MATRIX.search(text.decode("utf-8", "replace"))
    return (int(found[2]), int(found[1])) if found else (1, 1)


def _bytes(dataset: Any, size: int) -> bytes:
    """What lies in the file of a table in one axis, so many bytes a row, without what its lists of numbers point to."""
    if dataset.ndim != 1 or dataset.is_virtual or dataset.external or dataset.id.get_create_plist().get_nfilters():
        raise Unread("is packed otherwise than ISMRMRD does: write it by its library")
    places = [(dataset.id.get_offset() or 0, len(dataset) * size)]
    if dataset.chunks:
        infos = [dataset.id.get_chunk_info_by_coord((k,)) for k in range(0, len(dataset), dataset.chunks[0])]
        places = [(info.byte_offset or 0, dataset.chunks[0] * size) for info in infos]
    with Path(dataset.file.filename).open("rb") as file:
        return b"".join(_part(file, *place) for place in places)


def _part(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def kspace(name: str, dataset: Any, most: float | None) -> Variable:
    """Complex k-space (n, coils, [second steps,] steps, samples) of the lines; zero where there is none.

    Raises:
        Unread: the lines have not one length, or lie on no grid.
    """
    table, heap = _table(dataset), Heap(dataset)
    head = table["head"]
    used = np.flatnonzero(head["flags"] & np.uint64(NO_PICTURE) == 0)
    lines = head[used]
    if not len(lines):
        raise Unread(f"{name} has no lines of a picture")
    if lines["trajectory_dimensions"].any():
        raise Unread(f"{name} has lines along trajectories, not on a grid: grid them first")
    for what in ("number_of_samples", "active_channels"):
        if len(set(lines[what].tolist())) > 1:
            raise Unread(f"{name} has lines of different {what.replace('_', ' ')}: {sorted(set(lines[what].tolist()))}")
    if (lines["flags"] & np.uint64(REVERSED)).any():
        raise Unread(f"{name} has lines that were measured backward (EPI): correct them first")
    samples, coils = int(lines["number_of_samples"][0]), int(lines["active_channels"][0])
    counters = lines["idx"]
    where = np.stack([counters[what].astype(np.int64) for what in SAMPLES], 1)
    keys, sample = np.unique(where, axis=0, return_inverse=True)
    sample = sample.reshape(-1)
    first, second = (counters[f"kspace_encode_step_{k}"].astype(np.int64) for k in (1, 2))
    least = (int(second.max()) + 1, int(first.max()) + 1)
    grid = tuple(max(pair) for pair in zip(least, _matrix(dataset), strict=True))
    if math.prod(grid) > SPARSEST * len(lines):
        raise ValueError(f"{name} claims {math.prod(grid)} lines, of which {len(lines)} are there")
    if len({*zip(sample.tolist(), second.tolist(), first.tolist(), strict=True)}) < len(lines):
        raise Unread(f"{name} has several lines of one place in k-space: average them first, or separate them")
    event = (coils, *(grid if grid[0] > 1 else grid[1:]), samples)
    check_unpacked(8 * math.prod(event), f"{name}: k-space of {event}", most)

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        out = np.zeros((len(index), coils, *grid, samples), np.complex64)
        for k, one in enumerate(index):
            for line in np.flatnonzero(sample == one):
                values = np.frombuffer(heap.get(table["data"][used[line]], 4), "<f4")
                if values.size != 2 * coils * samples:
                    raise ValueError(f"line {used[line]} has {values.size} numbers, not {2 * coils * samples}")
                out[k, :, second[line], first[line]] = values.view(np.complex64).reshape(coils, samples)
        return out.reshape(len(index), *event)

    said = [f"{len(lines)} lines of {len(keys) * math.prod(grid)}, zero elsewhere"]
    if len(used) < len(head):
        said.append(f"left: {len(head) - len(used)} lines of noise or calibration")
    return Variable(name, (len(keys), *event), np.dtype(np.complex64), rows, ("ISMRMRD", *said), placed=True)
