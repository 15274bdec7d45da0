"""The IDX format of MNIST and its kin."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorefield._memory import TooLarge, check_unpacked

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
PACKED = 1032  # bytes that gzip makes one of at most


def is_idx(path: Path) -> bool:
    """Whether the name is one of MNIST's, packed or not."""
    return path.name.lower().removesuffix(".gz").endswith(("-ubyte", ".idx"))


def read_idx(path: Path, most: float | None = None) -> NDArray[np.generic]:
    """The array of an IDX file, gzipped or not: two zero bytes, type, rank, big-endian sides, then the numbers.

    Args:
        path: the file.
        most: bytes that the array may take; by default the machine's memory.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
                raise ValueError(f"it begins with {head.hex(' ')}")
            sides = np.frombuffer(file.read(4 * head[3]), ">u4").astype(int).tolist()
            dtype = np.dtype(TYPES[head[2]])
            size = math.prod(sides) * dtype.itemsize if sides else 0
            have = path.stat().st_size
            if len(sides) != head[3] or not 0 < size <= have * (PACKED if path.suffix.lower() == ".gz" else 1):
                raise ValueError(f"it claims the shape {sides} in a file of {have} bytes")
            check_unpacked(size, f"{path}: an array of shape {tuple(sides)}", most)
            x = np.empty(sides, dtype)
            count = file.readinto(x.reshape(-1).view(np.uint8).data)
            count += len(file.read(1))
    except TooLarge:
        raise
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as IDX ({error}): get another copy of it") from error
    if count != size:
        raise ValueError(
            f"{path}: holds {'more than ' if count > size else ''}{min(count, size)} bytes of numbers where its head "
            f"claims {size}: get another copy"
        )
    return x.byteswap(inplace=True).view(dtype.newbyteorder("=")) if dtype.byteorder == ">" else x


def read_mnist(path: Path, most: float | None = None) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Images and labels from a file of images with its labels beside it, or from the training set of a folder.

    See `read_idx` for `most`.
    """
    if path.is_dir():
        path = next(iter(training_images(path)))
    stem = path.name.removesuffix(".gz")
    for images, labels in ((IMAGES, LABELS), (IMAGES.replace("-idx", ".idx"), LABELS.replace("-idx", ".idx"))):
        for end in ("", ".gz"):
            beside = path.with_name(stem.replace(images, labels) + end)
            if stem.endswith(images) and beside.is_file():
                return read_idx(path, most), read_idx(beside, most)
    return read_idx(path, most), None


def training_images(folder: Path) -> list[Path]:
    """MNIST's file of training images in a folder, under any of its names."""
    return sorted(path for path in folder.glob("train-images*") if is_idx(path))


def beside_training(path: Path) -> tuple[str, ...]:
    """The sets that a folder of MNIST or CIFAR holds beside that of training, in words."""
    others = sorted(path.glob("t10k-images*")) + sorted(path.glob("test*.bin")) if path.is_dir() else []
    return tuple(f"{other.name}: the test set, data by itself" for other in others)
