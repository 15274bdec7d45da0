"""Parquet as the Hugging Face Hub serves it: pictures in their files' bytes, lists of numbers, names of classes."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.audio import RECORDINGS
from scorefield.data.dataset import ArrayDataset
from scorefield.data.formats.contract import check_inside, sides, word
from scorefield.data.formats.numbers import Numbers
from scorefield.data.found import Found, counted
from scorefield.data.images import SUFFIXES, Images, Reader
from scorefield.data.labels import in_order
from scorefield.data.members import ARCHIVES, Broken, listed, reason
from scorefield.data.stored import gather
from scorefield.data.tables import _parquet as parquet_file  # pyright: ignore[reportPrivateUsage]

ROWS = 256  # that are read at a time
SPLIT = re.compile(r"(train|test|validation|valid|val|dev)[-_.]", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """What is taken of a file's columns.

    Args:
        sample: name of the column of samples.
        picture: these are pictures, not lists of numbers.
        label: name of the column of classes, if any.
        class_names: of the classes by their numbers; empty if the column holds words.
        left: names of the other columns.
    """

    sample: str
    picture: bool
    label: str | None
    class_names: tuple[str, ...]
    left: tuple[str, ...]


def hub_files(path: Path) -> tuple[list[Path], list[str]]:
    """The Parquet files of a path whose columns hold more than numbers, and in words what of a folder is left.

    A file of plain numbers is a table, see `Table`. Of a folder with parts for training and tests, those for training.
    """
    if not path.is_dir():
        return ([path], []) if path.suffix.lower() == ".parquet" and _nested(path) else ([], [])
    others = (*SUFFIXES, *RECORDINGS, *ARCHIVES)  # beside which a table may be about them
    if any(name.lower().endswith(others) for _, _, files in os.walk(path) for name in files):
        return [], []
    found = [PurePosixPath(name) for name in listed(path, (".parquet",)).ending((".parquet",))]
    parts = {name: match[1].lower() for name in found if (match := SPLIT.match(name.name))}
    others = sorted({part for part in parts.values() if part != "train"})
    if len(parts) == len(found) and "train" in parts.values():
        found = [name for name in found if parts[name] == "train"]
        left = [f"the parts {', '.join(others)}"] if others else []
    elif len(set(parts.values())) > 1 or (parts and len(parts) < len(found)):
        raise ValueError(f"{path}: holds several parts: {', '.join(name.name for name in found[:8])}: name one")
    else:
        left = []
    for name in found:
        check_inside(path / name, path)
    return [path / name for name in found], left


def _nested(path: Path) -> bool:
    import pyarrow as pa

    with parquet_file(path) as file:
        return any(pa.types.is_nested(field.type) or _innermost(field.type) for field in file.schema_arrow)


def read_hub(
    files: Sequence[Path],
    images: Images,
    broken: Broken,
    array: str | None = None,
    label: str | None = None,
    left: Sequence[str] = (),
    limit: int | None = None,
    folder: Path | None = None,
    most: float | None = None,
) -> ArrayDataset:
    """The data in files whose columns hold pictures or lists.

    Args:
        files: of one schema.
        images: how pictures become arrays.
        broken: what to do with pictures that cannot be read.
        array: name of the column of samples; by default the only one of pictures, or else of lists.
        label: name of the column of classes; by default the only one that the schema declares to be one.
        left: what was left of the folder.
        limit: of the samples, the first of which are read.
        folder: where a temporary file goes.
        most: bytes of all frames of one picture.
    """
    with parquet_file(files[0]) as file:
        schema = file.schema_arrow
    columns, reader = _columns(files[0], schema, array, label), Reader(images, most)
    class_names = columns.class_names or tuple(in_order(_words(files, columns.label)))
    number = {name: k for k, name in enumerate(class_names)}
    labels: list[int] = []

    def samples() -> Iterator[NDArray[Any]]:
        shape: tuple[int, ...] | None = None
        rows = _rows(files, schema, columns, class_names, reader, broken)
        for k, (values, name) in enumerate(itertools.islice(rows, limit)):
            shape = shape or values.shape
            if values.shape != shape:
                raise ValueError(f"{files[0].parent}: sample {k} has the shape {values.shape}, the first {shape}")
            if name is not None:
                labels.append(number[name])
            yield values

    x = gather(samples(), folder)
    if not len(x):
        raise ValueError(f"{files[0]}: no sample is left: there is none, or all were skipped")
    data = ArrayDataset(
        x,
        torch.tensor(labels, dtype=torch.int64) if class_names else None,
        levels=reader.kind.levels if reader.kind else 256 if x.dtype == torch.uint8 else None,
        classes=len(class_names),
        class_names=class_names,
        name=str(files[0] if len(files) == 1 else files[0].parent),
        how=images if columns.picture else None,
    )
    kind = f"{'pictures' if columns.picture else 'lists'} of the column {columns.sample}"
    classes = f"; {len(class_names)} classes by the column {columns.label}" if columns.label else ""
    others = (f"the columns {', '.join(columns.left)}",) if columns.left else ()
    taken = f"{data.found.taken}: {kind} of {counted(len(files), 'Parquet file')}{classes}"
    data.found = Found(taken, (*others, *left))
    return data


def _columns(path: Path, schema: Any, array: str | None, label: str | None) -> Columns:
    import pyarrow as pa

    features = _features(schema)
    pictures = [field.name for field in schema if _is_picture(field.type)]
    lists = [field.name for field in schema if _innermost(field.type) is not None]
    declared = [name for name, one in features.items() if one.get("_type") == "ClassLabel" and name in schema.names]
    known = pictures or lists
    if array is None and len(known) != 1:
        raise ValueError(
            f"{path}: holds {', '.join(map(word, known)) or 'no column of pictures or lists of numbers'}: choose a "
            "column: --reading.array NAME"
        )
    if array is not None and array not in (*pictures, *lists):
        raise ValueError(f"{path}: has no pictures or lists {array[:80]!r}; it has {', '.join(map(word, known))}")
    if label is None and len(declared) > 1:
        raise ValueError(f"{path}: has classes in {', '.join(declared)}: choose one: --reading.table.label NAME")
    label = label or next(iter(declared), None)
    if label is not None and (label not in schema.names or pa.types.is_nested(schema.field(label).type)):
        raise ValueError(
            f"{path}: has no column {label[:80]!r} of classes; it has {', '.join(map(word, schema.names))}"
        )
    sample = array or known[0]
    class_names = tuple(map(str, features.get(label or "", {}).get("names") or ()))
    rest = tuple(word(name) for name in schema.names if name not in (sample, label))
    return Columns(sample, sample in pictures, label, class_names, rest)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` says of the columns."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_picture(kind: Any) -> bool:
    import pyarrow as pa

    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return "bytes" in fields and set(fields) <= {"bytes", "path"}


def _innermost(kind: Any) -> Any:
    """The type of the numbers in lists of lists, None of anything else."""
    import pyarrow as pa

    depth = 0
    while True:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            break
        kind, depth = kind.value_type, depth + 1
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if depth and plain else None


def _batches(files: Sequence[Path], schema: Any, columns: list[str]) -> Iterator[tuple[Path, int, Any]]:
    """(file, number of its first row, some rows) of all files; damage is found before values are used."""
    for path in files:
        with parquet_file(path) as file:
            if schema is not None and file.schema_arrow.remove_metadata() != schema.remove_metadata():
                raise ValueError(f"{path}: has other columns than {files[0].name}: separate them")
            start = 0
            for batch in file.iter_batches(ROWS, columns=columns):
                batch.validate(full=True)
                yield path, start, batch
                start += len(batch)
            if start != file.metadata.num_rows:
                raise ValueError(f"{path}: holds {start} rows where its head claims {file.metadata.num_rows}")


def _words(files: Sequence[Path], label: str | None) -> set[str]:
    """The different classes of a column."""
    found = set[str]()
    for path, start, batch in _batches(files, None, [label]) if label else ():
        for k, value in enumerate(batch.column(0).to_pylist()):
            if value is None or not str(value).strip():
                raise ValueError(f"{path}: row {start + k} has no class: give it one, or drop it")
            found.add(str(value))
    return found


def _rows(
    files: Sequence[Path],
    schema: Any,
    columns: Columns,
    class_names: tuple[str, ...],
    reader: Reader,
    broken: Broken,
) -> Iterator[tuple[NDArray[Any], str | None]]:
    """(sample, class) of each row."""
    wanted = [columns.sample, *([columns.label] if columns.label else [])]
    for path, start, batch in _batches(files, schema, wanted):
        labels = batch.column(columns.label).to_pylist() if columns.label else [None] * len(batch)
        given = batch.column(columns.sample)
        samples = given.to_pylist() if columns.picture else _arrays(given, f"{path}: rows from {start}")
        for k, (sample, label) in enumerate(zip(samples, labels, strict=True)):
            where = f"{path}: row {start + k}"
            made = _pictures(sample, reader, broken, where) if columns.picture else [sample]
            name = _class(label, columns, class_names, where)
            yield from ((values, name) for values in made)


def _pictures(sample: Any, reader: Reader, broken: Broken, where: str) -> list[NDArray[Any]]:
    """The samples of a picture's file."""
    content: bytes | None = (sample or {}).get("bytes")
    if content is None:
        raise ValueError(f"{where} names a file instead of holding a picture, which is not opened")
    return reader.met(lambda: bytes(content), where, broken)


def _class(label: Any, columns: Columns, class_names: tuple[str, ...], where: str) -> str | None:
    if columns.label is None:
        return None
    if columns.class_names:
        if not (isinstance(label, int) and 0 <= label < len(class_names)):
            raise ValueError(f"{where} has the class {word(label)}: drop the rows without a class")
        return class_names[label]
    return str(label)


def _arrays(column: Any, where: str) -> NDArray[Any]:
    """(k, ...) of lists of one length, or lists of lists."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    shape, values = [len(column)], column
    while True:
        values = values.storage if isinstance(values, pa.ExtensionArray) else values
        if not pa.types.is_nested(values.type):
            break
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise ValueError(f"{where}: lists of different lengths, or none: {lengths[:5]}: give all one length")
        shape.append(lengths[0])
        values = values.flatten()
    if values.null_count:
        raise ValueError(f"{where}: lists with empty places: fill or drop them first")
    found = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ValueError(f"{where}: lists with NaN or infinite values: fill or drop them first")
    try:
        return Numbers.of(found.dtype, None, sides(shape))(found).reshape(shape)
    except ValueError as error:
        raise ValueError(f"{where}: {reason(error)}") from error
