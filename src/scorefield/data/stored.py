"""Rows that are too large for memory, read from a file when they are asked for."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._memory import size
from scorefield.data.axes import arranged

IN_MEMORY = 1 << 30  # bytes of samples that are held in memory; more go to a file
CHANGED = "is not the file that the data were read from, or has changed since: read the data again"


class Stored:
    """An array (n, *event) in a file, of which only the rows that are asked for are in memory.

    Copies in one process are the array itself. A pickle holds the file's path and identity (device, inode, size, time
    of change), by which another process opens it again; that of a file without a name is refused.

    Args:
        file: open for reading; it may be closed afterwards.
        offset: bytes before the first row.
        shape: (n, *event).
        dtype: of the numbers in the file.
        axes: of the array in the file, in letters, if they are not in the order of a data set; see `arranged`.
    """

    def __init__(self, file: BinaryIO, offset: int, shape: Sequence[int], dtype: np.dtype, axes: str = "") -> None:
        self._file, self._offset, self._type = os.dup(file.fileno()), offset, dtype
        weakref.finalize(self, os.close, self._file)
        self._path = Path(file.name).absolute() if isinstance(file.name, str) else None
        self._identity = _identity(self._file)
        self._sides, self._axes = tuple(shape), axes
        self.shape, self.dtype = torch.Size(shape), torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
        if axes:
            self.shape = torch.Size(arranged(np.broadcast_to(np.empty(()), shape), axes).shape)
        self._row = math.prod(shape[1:]) * dtype.itemsize
        have, wanted = os.fstat(file.fileno()).st_size - offset, shape[0] * self._row
        if have < wanted:
            raise ValueError(f"the file is cut short: it holds {have} bytes of {wanted}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int64[Tensor, "b"]) -> Tensor:
        """The rows of these indices.

        Raises:
            ValueError: the file has changed since it was opened first.
        """
        self._check()
        wanted = index.tolist()
        data = bytearray(len(wanted) * self._row)
        view = memoryview(data)
        for k in sorted(range(len(wanted)), key=wanted.__getitem__):  # forward through the file
            place = view[k * self._row : (k + 1) * self._row]
            if os.preadv(self._file, [place], self._offset + wanted[k] * self._row) != self._row:
                raise ValueError(f"row {wanted[k]} cannot be read: the file has been cut short")
        rows = np.frombuffer(data, self._type).reshape(len(wanted), *self._sides[1:])
        rows = np.ascontiguousarray(arranged(rows, self._axes)) if self._axes else rows
        return torch.from_numpy(rows.astype(self._type.newbyteorder("="), copy=False))

    def __copy__(self) -> Stored:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Stored:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        self._check()
        if self._path is None:
            raise TypeError(
                "cannot pickle data that were gathered into a temporary file, which other processes cannot open: let "
                "each process read them anew, or save them as one .npy file and read that"
            )
        return _reopened, (self._path, self._identity, self._offset, self._sides, self._type, self._axes)

    def _check(self) -> None:
        if _identity(self._file) != self._identity:
            raise ValueError(f"{self._path or 'a temporary file'} {CHANGED}")


def _identity(file: int) -> tuple[int, int, int, int]:
    """What tells the content of an open file from that of any other: device, inode, bytes, time of change in ns."""
    found = os.fstat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _reopened(
    path: Path, identity: tuple[int, ...], offset: int, shape: tuple[int, ...], dtype: np.dtype, axes: str
) -> Stored:
    """The same array in another process."""
    with path.open("rb") as file:
        if _identity(file.fileno()) != tuple(identity):
            raise ValueError(f"{path} {CHANGED}")
        return Stored(file, offset, shape, dtype, axes)


def gather(samples: Iterable[NDArray[np.generic]], folder: Path | None = None) -> Tensor | Stored:
    """All samples in one array: in memory up to a gigabyte, in a temporary file beyond it.

    Args:
        samples: arrays of one shape and type.
        folder: where the temporary file goes; the system's place for such files by default. It has no name and
            vanishes with the process.
    """
    blocks = _blocks(samples)
    held: list[NDArray[np.generic]] = []
    for block in blocks:
        held.append(block)
        if sum(b.nbytes for b in held) > IN_MEMORY:
            return _spill(held, blocks, folder)
    return torch.from_numpy(np.concatenate(held)) if held else torch.empty(0)


def gather_blocks(
    blocks: Iterable[NDArray[np.float64]], count: int, row: Sequence[int], name: str, folder: Path | None = None
) -> Tensor | Stored:
    """All blocks in one array, as `gather` does with samples, where the number of rows is known: each is copied once.

    Args:
        blocks: arrays (k, *row).
        count: of all rows together.
        row: shape of one.
        name: what messages call them.
        folder: where the temporary file goes.

    Raises:
        ValueError: there are more rows or fewer; or the disk has no place for them, which is asked first.
    """
    whole = 8 * count * math.prod(row)
    if whole > IN_MEMORY:
        free = shutil.disk_usage(folder or tempfile.gettempdir()).free
        if whole > free:
            raise ValueError(
                f"{name}: {count} rows take {size(whole)} in a temporary file; its disk has {size(free)} left: make "
                "space, or name another place by TMPDIR"
            )
        return _spill([np.empty((0, *row))], iter(blocks), folder)
    held, place = np.empty((count, *row)), 0
    for block in blocks:
        held[place : place + len(block)] = block[: count - place]
        place += len(block)
    if place != count:
        raise ValueError(f"{name}: holds {place} rows where its head claims {count}: write it again")
    return torch.from_numpy(held)


def _blocks(samples: Iterable[NDArray[np.generic]]) -> Iterator[NDArray[np.generic]]:
    """The samples in arrays of some 16 MiB: small ones would take far more memory each by itself."""
    block: list[NDArray[np.generic]] = []
    size = 0
    for sample in samples:
        block.append(sample)
        size += sample.nbytes
        if size > 1 << 24:
            yield np.stack(block)
            block, size = [], 0
    if block:
        yield np.stack(block)


def _spill(held: list[NDArray[np.generic]], rest: Iterator[NDArray[np.generic]], folder: Path | None) -> Stored:
    count, shape, dtype = 0, held[0].shape[1:], held[0].dtype
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in itertools.chain(held, rest):
            if block.shape[1:] != shape or block.dtype != dtype:
                raise ValueError(f"sample {count} is {block.dtype} {block.shape[1:]}, the first {dtype} {shape}")
            file.write(block.tobytes())
            count += len(block)
        file.flush()
        return Stored(file, 0, (count, *shape), dtype)
