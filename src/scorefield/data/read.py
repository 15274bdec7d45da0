"""Any data that a user has, from its path alone."""

from __future__ import annotations

import csv
import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.arrays import load_arrays, real_conditions
from scorefield.data.audio import Audio
from scorefield.data.axes import arranged, check_axes, likely_axes
from scorefield.data.cifar import is_cifar, read_cifar
from scorefield.data.dataset import ArrayDataset
from scorefield.data.files import read_files
from scorefield.data.huggingface import is_huggingface, read_huggingface
from scorefield.data.idx import beside_training, is_idx, read_mnist, training_images
from scorefield.data.images import Images
from scorefield.data.labels import in_order
from scorefield.data.levels import as_levels, hint
from scorefield.data.members import Broken, is_archive
from scorefield.data.stored import gather, gather_blocks
from scorefield.data.tables import Block, Table, csv_blocks, parquet_blocks, parquet_rows

NUMPY = (".npy", ".npz")


def read(
    path: str | Path,
    *,
    images: Images | None = None,
    table: Table | None = None,
    audio: Audio | None = None,
    broken: Broken = Broken.refuse,
    levels: int | None = None,
    axes: str | None = None,
    limit: int | None = None,
    folder: Path | None = None,
    largest: float | None = None,
) -> ArrayDataset:
    """The data in a file, a folder or an archive; `found` of what is returned says in words what was made of it.

    | path                                                  | what it gives                                  |
    |-------------------------------------------------------|------------------------------------------------|
    | .npy, .npz                                            | arrays, see `load_arrays`                      |
    | .csv, .tsv, .parquet                                  | vectors, see `Table`                           |
    | IDX file (MNIST and its kin), gzipped or not, or folder | images (1, h, w), labels from the file beside  |
    | .bin, or folder or archive of CIFAR's binary version  | images (3, 32, 32), labels                     |
    | folder or archive of pictures, folder of such archives | images, see `Images`; classes, see `sort`      |
    | folder or archive of .wav                             | signals, see `Audio`; classes, see `sort`      |
    | folder saved by Hugging Face `datasets`               | its one column of pictures or numbers          |

    More than a gigabyte of samples goes to a temporary file, of which only the rows that are asked for are read.

    Args:
        path: what to read; nothing in it is executed, and archives are not extracted.
        images: how pictures become arrays.
        table: which columns of a table are what.
        audio: how recordings become signals.
        broken: what to do with pictures and recordings that cannot be read.
        levels: of arrays of integers, which take the values 0 .. levels - 1; 256 of 8-bit ones if not given.
        axes: of arrays, a letter for each; see `load_arrays`.
        limit: read only the first so many samples of pictures, recordings, images and tables.
        folder: where the temporary file goes.
        largest: GiB that one file may take in memory when it is unpacked, by what its head says; by default 0.25 of a
            picture, a recording or a member of an archive, and the machine's memory of arrays, IDX and tables.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it cannot be read; the message names the file, and what to do.
    """
    path = Path(path)
    if largest is not None and not largest > 0:
        raise ValueError(f"largest must be a positive number of GiB; got {largest}")
    most = None if largest is None else largest * 2**30
    axes = None if axes is None else check_axes(axes)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix in NUMPY:
        return load_arrays(path, levels, most, axes)
    if _is_mnist(path):
        return _of_images(*read_mnist(path, most), path, limit, levels, axes)
    if is_huggingface(path):
        return read_huggingface(path, images or Images(), broken, levels, axes, limit, folder, most)
    for name, value in (("levels", levels), ("axes", axes)):
        if value is not None:
            raise ValueError(f"{path}: {name} are for arrays, .npy, .npz or IDX; got {name} = {value}")
    if suffix in (".csv", ".tsv", ".parquet"):
        return _of_table(path, table or Table(), limit, folder, most)
    if is_cifar(path):
        return _of_images(*read_cifar(path, most), path, limit, None, "nchw")
    if path.is_dir() or is_archive(path):
        return read_files(path, images or Images(), audio or Audio(), broken, limit, folder, most)
    raise ValueError(
        f"{path}: of no known kind: wanted .npy, .npz, .csv, .tsv, .parquet, IDX, CIFAR's .bin, or a folder or "
        "archive of pictures or .wav files"
    )


def takes_levels(path: Path) -> bool:
    """Whether levels and axes can be said of what is at a path."""
    return path.suffix.lower() in NUMPY or _is_mnist(path) or is_huggingface(path)


def _is_mnist(path: Path) -> bool:
    return is_idx(path) or (path.is_dir() and bool(training_images(path)))


def _of_images(
    x: NDArray[Any], label: NDArray[Any] | None, path: Path, limit: int | None, levels: int | None, axes: str | None
) -> ArrayDataset:
    """Of an array that holds the samples of IDX or CIFAR."""
    if label is not None and label.shape != x.shape[:1]:
        raise ValueError(f"{path}: has {len(x)} images but labels of shape {label.shape}")
    whole = None if label is None else torch.from_numpy(label.astype(np.int64))
    values, levels = as_levels(x[:limit], levels, str(path))
    axes = axes or ("nhw" if x.ndim == 3 else likely_axes(x.shape, str(path)))
    values = arranged(values, axes) if axes else values
    data = ArrayDataset(
        torch.from_numpy(np.ascontiguousarray(values)),
        None if whole is None else whole[:limit],
        levels=levels,
        classes=None if whole is None or not len(whole) else int(whole.max()) + 1,
        name=str(path),
    )
    data.found = replace(data.found, left=beside_training(path), otherwise=hint(x) if levels is None else ())
    return data


def _of_table(path: Path, table: Table, limit: int | None, folder: Path | None, most: float | None) -> ArrayDataset:
    numbers: dict[str, int] = {}
    cond: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.int64]] = []

    def vectors(blocks: Iterable[Block]) -> Iterator[NDArray[np.float64]]:
        for block in blocks:
            if table.cond:  # of a block without any, an empty part would hold the whole
                cond.append(block.cond.copy())
            labels.append(block.labels)
            yield block.vectors

    try:
        table = table.of(path)
        if path.suffix.lower() == ".parquet":
            count = min(parquet_rows(path), sys.maxsize if limit is None else limit)
            kept = len(table.cond) + (table.label is not None)  # the vectors of many rows go to a file
            check_unpacked(8 * count * kept, f"{path}: the labels and conditions of {count} rows", most)
            blocks = vectors(parquet_blocks(path, table, limit, numbers))
            x = gather_blocks(blocks, count, (len(table.columns),), str(path), folder)
        else:
            x = gather(itertools.chain.from_iterable(vectors(csv_blocks(path, table, limit, numbers))), folder)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as text ({error}): save it as UTF-8") from error
    names = in_order(numbers)
    if limit is None and len(names) == len(x) > 2:
        warnings.warn(
            f"{path}: each of the {len(x)} rows has a class of its own by {table.label}, of which nothing can be "
            "learnt: numbers are conditions, --reading.table.cond",
            stacklevel=3,
        )
    order = {word: k for k, word in enumerate(names)}
    renumbered = torch.tensor([order[word] for word in numbers], dtype=torch.int64)
    return ArrayDataset(
        x,
        renumbered[torch.from_numpy(np.concatenate(labels))] if names else None,
        real_conditions(np.concatenate(cond)) if table.cond and cond else None,
        classes=len(names),
        class_names=names,
        name=str(path),
        how=table,
    )
