"""The IDX format of MNIST and its kin."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
LARGEST = 8 << 30  # bytes of an unpacked file


def is_idx(path: Path) -> bool:
    """Whether the name is one of MNIST's, packed or not."""
    return path.name.removesuffix(".gz").endswith(("-ubyte", ".idx"))


def read_idx(path: Path) -> NDArray[np.generic]:
    """The array of an IDX file, gzipped or not: two zero bytes, type, rank, big-endian sides, then the numbers."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
                raise ValueError(f"it begins with {head.hex(' ')}")
            sides = np.frombuffer(file.read(4 * head[3]), ">u4").astype(int).tolist()
            dtype = np.dtype(TYPES[head[2]])
            size = int(np.prod(sides, dtype=object)) * dtype.itemsize if sides else 0
            if len(sides) != head[3] or not 0 < size <= LARGEST:
                raise ValueError(f"it claims the shape {sides}")
            data = file.read(size + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as IDX ({error}): get another copy of it") from error
    if len(data) != size:
        raise ValueError(f"{path}: holds {len(data)} bytes of numbers where its head claims {size}: get another copy")
    return np.frombuffer(data, dtype).reshape(sides).astype(dtype.newbyteorder("="))


def read_mnist(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Images and labels from a file of images with its labels beside it, or from the training set of a folder."""
    if path.is_dir():
        path = next(iter(training_images(path)))
    stem = path.name.removesuffix(".gz")
    for images, labels in ((IMAGES, LABELS), (IMAGES.replace("-idx", ".idx"), LABELS.replace("-idx", ".idx"))):
        for end in ("", ".gz"):
            beside = path.with_name(stem.replace(images, labels) + end)
            if stem.endswith(images) and beside.is_file():
                return read_idx(path), read_idx(beside)
    return read_idx(path), None


def training_images(folder: Path) -> list[Path]:
    """MNIST's file of training images in a folder, under any of its names."""
    return sorted(path for path in folder.glob("train-images*") if is_idx(path))
