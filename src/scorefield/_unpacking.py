"""NumPy's files and zip archives: their heads are looked at before anything is unpacked, and nothing of them is run."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Generator, Hashable, Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorefield._memory import TooLarge, check_unpacked


class Head(NamedTuple):
    """What an array's file says of it.

    Attributes:
        shape: of the array.
        fortran: its first axis is the innermost.
        dtype: of its numbers.
        offset: bytes before the first of them.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_head(file: IO[bytes] | BufferedIOBase) -> Head:
    """The head of an array, at the beginning of a file in NumPy's format."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    head = Head(*read(file), file.tell())
    if head.dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code")
    if min(head.shape, default=0) < 0:
        raise ValueError(f"it claims the shape {head.shape}")
    return head


def read_npy(path: Path, most: float | None = None) -> NDArray[np.generic]:
    """The array of a .npy file.

    Args:
        path: the file.
        most: bytes that the array may take; by default the machine's memory.

    Raises:
        ValueError: it is damaged, or holds Python objects or more than it may.
    """
    with named(path), path.open("rb") as file:
        head = read_head(file)
        have = path.stat().st_size - head.offset
        if have < head.nbytes:
            raise ValueError(f"it holds {have} bytes of numbers where its head claims {head.nbytes}")
        check_unpacked(head.nbytes, f"{path}: an array of shape {head.shape}", most)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, most: float | None = None) -> dict[str, NDArray[np.generic]]:
    """The arrays of an .npz file by their names.

    Args:
        path: the file.
        most: bytes that all arrays together may take; by default the machine's memory.

    Raises:
        ValueError: it is damaged, or holds anything but arrays of numbers, or more than it may.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    with named(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_different([info.filename.removesuffix(".npy") for info in members])
        wanted = 0
        for info in members:
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                    raise ValueError(f"its member {name!r} is not an array")
            with archive.open(info) as file:
                head = read_head(file)
            if head.offset + head.nbytes != info.file_size:
                raise ValueError(f"its member {name!r} has {info.file_size} bytes, which its shape {head.shape} is not")
            wanted += head.nbytes
        check_unpacked(wanted, f"{path}: its arrays", most)
        for info in members:
            with archive.open(info) as file:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                file.read(1)  # nothing is left; at the end the checksum is compared
    return arrays


def check_different(names: Iterable[Hashable]) -> None:
    """Refuses two of one name, of which one reader would take the first and another the last."""
    seen: set[Hashable] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"it has two members of the name {str(name)[:80]!r}")
        seen.add(name)


@contextlib.contextmanager
def named(path: Path) -> Generator[None]:
    """Turns whatever a damaged file makes of the readers into a line that names it."""
    try:
        yield
    except TooLarge:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"{path}: cannot be read as NumPy data ({reason}): write it again with numpy.save or numpy.savez"
        ) from error
