"""The binary version of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scorefield.data.members import content, is_archive, members, readable

PIXELS = 3 * 32 * 32


def is_cifar(path: Path) -> bool:
    """Whether it is a file, folder or archive of CIFAR, of either version."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("data_batch_1.bin", "data_batch_1", "train.bin"))
    return path.suffix.lower() == ".bin" or (is_archive(path) and path.name.lower().startswith("cifar-"))


def read_cifar(path: Path, most: float | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 3, 32, 32) and labels: the training set of a folder or archive, or the set of one file.

    Of more than `most` bytes in one file, by default 256 MiB, only the head is looked at.
    """
    if "python" in path.name or (path.is_dir() and (path / "data_batch_1").is_file()):
        raise ValueError(
            f"{path}: the Python version of CIFAR holds pickles, which run code when they are read: get the binary one"
        )
    with readable(path):
        if path.suffix.lower() == ".bin":
            found = [(PurePosixPath(path.name), content(path, most))]
        else:
            every = members(path, (".bin",), most)
            found = [(name, read()) for name, read in every if not name.name.startswith("test")]
    if not found:
        raise ValueError(f"{path}: has no file that ends in .bin")
    images, labels = zip(*(_records(data, f"{path}: {name}") for name, data in sorted(found)), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _records(data: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    for labels in (1, 2):  # CIFAR-100 has a coarse and a fine one
        size = labels + PIXELS
        if data and len(data) % size == 0:
            records = np.frombuffer(data, np.uint8).reshape(-1, size)
            return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int64)
    raise ValueError(f"{name}: {len(data)} bytes are no multiple of {1 + PIXELS} or {2 + PIXELS}: get another copy")
