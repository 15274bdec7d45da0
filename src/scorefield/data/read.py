"""Any data that a user has, from its path alone."""

from __future__ import annotations

import csv
import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.arrays import load_arrays, real_conditions
from scorefield.data.audio import RECORDINGS, Audio, Signals
from scorefield.data.cifar import is_cifar, read_cifar
from scorefield.data.dataset import ArrayDataset
from scorefield.data.formats import FORMATS, format_of, read_format
from scorefield.data.formats.parquet import hub_files, hub_rows
from scorefield.data.huggingface import huggingface_rows, is_huggingface
from scorefield.data.idx import is_idx, read_mnist, training_images
from scorefield.data.images import SUFFIXES, Images, pictures
from scorefield.data.members import Broken, classes, empty_folders, is_archive, names
from scorefield.data.stored import gather, gather_blocks
from scorefield.data.tables import Block, Table, csv_blocks, parquet_blocks, parquet_rows


def read(
    path: str | Path,
    *,
    images: Images | None = None,
    table: Table | None = None,
    audio: Audio | None = None,
    broken: Broken = Broken.refuse,
    levels: int | None = None,
    limit: int | None = None,
    folder: Path | None = None,
    largest: float | None = None,
    array: str | None = None,
) -> ArrayDataset:
    """The data in a file, a folder or an archive.

    | path                                                  | what it gives                                  |
    |-------------------------------------------------------|------------------------------------------------|
    | .npy, .npz                                            | arrays, see `load_arrays`                      |
    | .csv, .tsv, .parquet                                  | vectors, see `Table`                           |
    | IDX file (MNIST and its kin), gzipped or not, or folder | images (1, h, w), labels from the file beside  |
    | .bin, or folder or archive of CIFAR's binary version  | images (3, 32, 32), labels                     |
    | folder or archive of pictures                         | images, see `Images`; folders are classes      |
    | folder or archive of .wav, .flac, .ogg, .opus         | signals, see `Audio`; folders are classes      |
    | HDF5, Zarr, NetCDF, NIfTI, DICOM, FITS, .mat, .cfl, .safetensors, .pt, or a folder | see `formats`     |
    | Parquet of pictures or lists, or folder of such files | as the Hugging Face Hub serves them            |
    | folder saved by Hugging Face `datasets`               | its one column of pictures or numbers          |

    More than a gigabyte of samples goes to a temporary file, of which only the rows that are asked for are read.

    Args:
        path: what to read; nothing in it is executed, and archives are not extracted.
        images: how pictures become arrays.
        table: which columns of a table are what.
        audio: how recordings become signals.
        broken: what to do with pictures and recordings that cannot be read.
        levels: of arrays of integers, which take the values 0 .. levels - 1; 256 of 8-bit ones if not given.
        limit: read only the first so many samples of pictures, recordings, images and tables.
        folder: where the temporary file goes.
        largest: GiB that one file may take in memory when it is unpacked, by what its head says; by default 0.25 of a
            picture, a recording or a member of an archive, and the machine's memory of arrays, IDX and tables.
        array: which of several arrays or columns in a file are the samples, by its name or path in the file.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it cannot be read; the message names the file, and what to do.
    """
    path = Path(path)
    if largest is not None and not largest > 0:
        raise ValueError(f"largest must be a positive number of GiB; got {largest}")
    most = None if largest is None else largest * 2**30
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if form := format_of(path):
        return read_format(form, path, array, levels, limit, most, folder)
    files, left = hub_files(path)
    if array is not None and not files:
        raise ValueError(f"{path}: array is for files of several arrays; got {array!r}: leave it out")
    if suffix in (".npy", ".npz"):
        return load_arrays(path, levels, most)
    if levels is not None:
        raise ValueError(f"{path}: levels are for arrays of integers, .npy or .npz; got levels = {levels}")
    if files:
        label = None if table is None else table.label
        rows, class_names, found = hub_rows(files, images or Images(), broken, array, label, left)
        data = _gathered(rows, path, class_names, limit, folder, sum(map(parquet_rows, files)))
        data.how, data.found = images, replace(found, taken=f"{data.found.taken}: {found.taken}")
        return data
    if suffix in (".csv", ".tsv", ".parquet"):
        return _of_table(path, table or Table(), limit, folder, most)
    if is_idx(path) or (path.is_dir() and training_images(path)):
        x, label = read_mnist(path, most)
        return _of_images(x[:, None] if x.ndim == 3 else x, label, path, limit)
    if is_cifar(path):
        return _of_images(*read_cifar(path, most), path, limit)
    if path.is_dir() and is_huggingface(path):
        rows, class_names = huggingface_rows(path, images or Images(), broken)
        data = _gathered(rows, path, class_names, limit, folder)
        data.how = images
        return data
    if path.is_dir() or is_archive(path):
        return _of_files(path, images or Images(), audio or Audio(), broken, limit, folder, most)
    raise ValueError(
        f"{path}: of no known kind: wanted .npy, .npz, .csv, .tsv, .parquet, IDX, CIFAR's .bin, or a folder or "
        f"archive of pictures or recordings; or {', '.join(form.name for form in FORMATS)}, whose names end in "
        f"{', '.join(suffix for form in FORMATS for suffix in form.suffixes)}"
    )


def _of_files(
    path: Path,
    images: Images,
    audio: Audio,
    broken: Broken,
    limit: int | None,
    folder: Path | None,
    most: float | None,
) -> ArrayDataset:
    every = names(path, (*SUFFIXES, *RECORDINGS))
    found = {kind: [name for name in every if name.suffix.lower() in kind] for kind in (SUFFIXES, RECORDINGS)}
    if not any(found.values()):
        kinds = f"pictures ({', '.join(SUFFIXES)}) nor recordings ({', '.join(RECORDINGS)})"
        raise ValueError(f"{path}: holds neither {kinds} nor files of {', '.join(form.name for form in FORMATS)}")
    if all(found.values()):
        raise ValueError(f"{path}: holds pictures and recordings: separate them")
    kind = SUFFIXES if found[SUFFIXES] else RECORDINGS
    recordings = Signals(path, audio, broken, most)
    samples: Iterable[tuple[PurePosixPath, NDArray[Any]]]
    samples = pictures(path, images, broken, most) if kind is SUFFIXES else recordings
    folders: dict[PurePosixPath, str] = {}
    if (images if kind is SUFFIXES else audio).labels:
        folders = classes(found[kind])
        if empty := empty_folders(path, found[kind]):
            warnings.warn(f"{path}: nothing that can be read lies in {', '.join(empty)}: no class", stacklevel=3)
    rows = ((values, folders.get(name)) for name, values in samples)
    data = _gathered(rows, path, _in_order(folders.values()), limit, folder)
    data.how = images if kind is SUFFIXES else replace(audio, rate=recordings.rate)
    return data


def _in_order(words: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in the order of their numbers: sorted, by value if all are integers."""
    different = set(words)
    if all(word.isascii() and word.isdigit() for word in different):
        return tuple(sorted(different, key=lambda word: (int(word), word)))
    return tuple(sorted(different))


def _gathered(
    rows: Iterable[tuple[NDArray[Any], str | None]],
    path: Path,
    class_names: Sequence[str],
    limit: int | None,
    folder: Path | None,
    count: int = 0,
) -> ArrayDataset:
    number = {name: k for k, name in enumerate(class_names)}
    labels: list[int] = []

    def samples() -> Iterator[NDArray[Any]]:
        shape: tuple[int, ...] | None = None
        for k, (values, word) in enumerate(itertools.islice(rows, limit)):
            shape = shape or values.shape
            if values.shape != shape:
                raise ValueError(f"{path}: sample {k} has the shape {values.shape}, the first {shape}")
            if word is not None:
                labels.append(number[word])
            yield values

    x = gather(samples(), folder, count if limit is None else min(count, limit))
    if not len(x):
        raise ValueError(f"{path}: no sample is left: all were skipped, or are shorter than the length of an event")
    return ArrayDataset(
        x,
        torch.tensor(labels, dtype=torch.int64) if class_names else None,
        levels=256 if x.dtype == torch.uint8 else None,
        classes=len(class_names),
        class_names=class_names,
        name=str(path),
    )


def _of_images(x: NDArray[Any], label: NDArray[Any] | None, path: Path, limit: int | None) -> ArrayDataset:
    if label is not None and label.shape != x.shape[:1]:
        raise ValueError(f"{path}: has {len(x)} images but labels of shape {label.shape}")
    whole = None if label is None else torch.from_numpy(label.astype(np.int64))
    levels = 256 if x.dtype == np.uint8 else None
    values = torch.from_numpy(np.ascontiguousarray(x[:limit]))
    return ArrayDataset(
        values if levels or values.dtype == torch.float64 else values.float(),
        None if whole is None else whole[:limit],
        levels=levels,
        classes=None if whole is None or not len(whole) else int(whole.max()) + 1,
        name=str(path),
    )


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
    names = _in_order(numbers)
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
