"""The arrays of MATLAB's files of version 5 to 7 ("MAT-File Format", MathWorks): elements of a tag and what it counts.

This is our own because SciPy's takes the type in a tag for a place in a table without a look: a damaged file can end
the process, or do worse. What is no array of numbers is skipped.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEAD, TAG = 128, 8  # bytes of the file's head, and of a tag
MATRIX, PACKED = 14, 15  # types of elements
MOST_HEAD = 1 << 12  # bytes before the numbers of an array: flags, sides, a name of 63 letters
RATIO = 1032  # bytes that zlib makes one of at most
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "object"}
COMPLEX, LOGICAL = 0x800, 0x200  # flags


class Array5(NamedTuple):
    """An array in a file: where it lies and what it is.

    Attributes:
        name: of the variable.
        kind: in MATLAB's word if it is no array of numbers, empty otherwise.
        shape: in MATLAB's axes.
        dtype: of its numbers.
        at: byte at which its element begins.
        size: bytes of the element.
        packed: the element is compressed.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    at: int
    size: int
    packed: bool


def arrays_5(path: Path) -> Iterator[Array5]:
    """All variables of a file, by their heads.

    Raises:
        ValueError: the file is damaged.
    """
    with path.open("rb") as file:
        order = _order(file.read(HEAD))
        have, at = path.stat().st_size, HEAD
        while at < have:
            file.seek(at)
            kind, size = (int(number) for number in np.frombuffer(file.read(TAG), f"{order}u4"))
            if kind not in (MATRIX, PACKED) or at + TAG + size > have:
                raise ValueError(f"it is damaged at byte {at}: an element of type {kind} and {size} bytes")
            start = file.read(min(size, MOST_HEAD))
            if kind == PACKED:
                start = zlib.decompressobj().decompress(start, MOST_HEAD)
                whole = _inner(start, order)
                if whole > size * RATIO:
                    raise ValueError(f"it claims {whole} bytes, packed in {size}")
                start = start[TAG:]
            array = _head(start, order, at, size, kind == PACKED)
            if not array.kind and math.prod(array.shape) > size * (RATIO if array.packed else 1):
                raise ValueError(f"{array.name} claims the shape {array.shape} in {size} bytes")
            yield array
            at += TAG + size


def _order(head: bytes) -> str:
    """The order of bytes."""
    order = {b"IM": "<", b"MI": ">"}.get(head[126:])
    if order is None:
        raise ValueError("its head is not MATLAB's")
    return order


def _inner(content: bytes, order: str) -> int:
    """Bytes of the matrix in a compressed element, with its tag."""
    kind, size = (int(number) for number in np.frombuffer(content[:TAG], f"{order}u4"))
    if kind != MATRIX:
        raise ValueError(f"a compressed element is of type {kind}, not a matrix")
    return TAG + size


def _head(content: bytes, order: str, at: int, size: int, packed: bool) -> Array5:
    parts = _parts(content, order)
    _, flags = next(parts)
    (_, sides), (_, name) = next(parts), next(parts)
    word = int(np.frombuffer(flags, f"{order}u4")[0])
    number = word & 0xFF
    if number not in CLASSES and number not in OTHERS:
        raise ValueError(f"an array is of class {number}")
    shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array claims the shape {shape}")
    dtype = np.dtype(bool if word & LOGICAL else CLASSES.get(number, "u1"))
    if word & COMPLEX and number in CLASSES:
        dtype = np.dtype(np.complex64 if dtype == np.float32 else np.complex128)
    kind = "" if name and number in CLASSES else OTHERS.get(number, "of a function")
    return Array5(name.decode("ascii", "replace"), kind, shape, dtype, at, size, packed)


def _parts(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of the elements within one."""
    at = 0
    while at < len(content):
        first, size = (int(number) for number in np.frombuffer(content[at : at + TAG], f"{order}u4"))
        if first >> 16:  # a small one, which lies in its own tag
            kind, size, start = first & 0xFFFF, first >> 16, at + 4
            following = at + TAG
        else:
            kind, start = first, at + TAG
            following = start + size + -size % 8
        if start + size > len(content) or (first >> 16 and size > 4):
            raise ValueError(f"an element claims {size} bytes beyond its end")
        yield kind, content[start : start + size]
        at = following


def values_5(path: Path, array: Array5) -> NDArray[np.generic]:
    """The numbers of an array, in MATLAB's axes.

    Raises:
        ValueError: they are not those of its head.
    """
    with path.open("rb") as file:
        order = _order(file.read(HEAD))
        file.seek(array.at + TAG)
        content = file.read(array.size)
    if array.packed:
        unpacking = zlib.decompressobj()
        whole = _inner(unpacking.decompress(content, TAG), order)
        content = unpacking.decompress(unpacking.unconsumed_tail, whole - TAG + 1)
        if len(content) != whole - TAG or not unpacking.eof:  # at whose end the checksum was compared
            raise ValueError(f"{array.name} is not of the {whole} bytes that its head claims")
    numbers = list(_parts(content, order))[3:]
    if len(numbers) != 1 + (array.dtype.kind == "c"):
        raise ValueError(f"{array.name} has {len(numbers)} parts of numbers")
    parts: list[NDArray[np.generic]] = []
    for kind, part in numbers:
        if kind not in STORED or len(part) != math.prod(array.shape) * np.dtype(STORED[kind]).itemsize:
            raise ValueError(f"{array.name} has {len(part)} bytes of type {kind} for the shape {array.shape}")
        parts.append(np.frombuffer(part, order + STORED[kind]))
    whole_part = parts[0].astype(array.dtype)
    if array.dtype.kind == "c":
        whole_part.imag = parts[1]
    return whole_part.reshape(array.shape, order="F")
