"""Data sets that the library `datasets` has saved to disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.axes import arranged, likely_axes
from scorefield.data.dataset import ArrayDataset
from scorefield.data.found import counted
from scorefield.data.images import Images, Reader
from scorefield.data.labels import PARTS
from scorefield.data.levels import as_levels, hint
from scorefield.data.members import Broken, reason
from scorefield.data.stored import gather


def is_huggingface(path: Path) -> bool:
    """Whether it is a folder that `Dataset.save_to_disk` wrote."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def read_huggingface(
    path: Path,
    images: Images,
    broken: Broken,
    levels: int | None = None,
    axes: str | None = None,
    limit: int | None = None,
    folder: Path | None = None,
    most: float | None = None,
) -> ArrayDataset:
    """The samples are the one column of pictures, or else the one column of numbers; the arguments are those of `read`.

    Classes are the one column that the data set declares to be of class labels. Of a saved DatasetDict the part `train`
    is taken, and the part `validation` to hold out, or `test` if there is none.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"{path}: reading it takes datasets: pip install 'scorefield[huggingface]'") from error
    try:
        loaded: Any = datasets.load_from_disk(str(path)).with_format(None)
    except Exception as error:  # of pyarrow, json and datasets itself
        raise ValueError(
            f"{path}: cannot be read by datasets ({type(error).__name__}: {reason(error)}): save it again"
        ) from error
    parts, left = _parts(loaded, path) if isinstance(loaded, datasets.DatasetDict) else ([loaded], [])
    kinds: dict[str, Any] = dict(parts[0].features)
    column, label = _columns(kinds, path)
    if rest := [name for name in kinds if name not in (column, label)]:
        left.append(
            f"{counted(len(rest), 'column')} {', '.join(rest)} (classes are of type ClassLabel: "
            "Dataset.class_encode_column)"
        )
    pictures = isinstance(kinds[column], datasets.Image)
    dtype = None if pictures else np.dtype(_type(kinds[column]))
    whole = levels if dtype is None or dtype.kind == "f" else as_levels(np.empty(0, dtype), levels, str(path))[1]
    class_names: tuple[str, ...] = tuple(kinds[label].names) if label else ()
    reader, labels, held = Reader(images, most), list[int](), list[bool]()

    def rows() -> Iterator[NDArray[Any]]:
        order = axes
        for place, part in enumerate(parts):
            sound = part.cast_column(column, datasets.Image(decode=False)) if pictures else part
            _check(sound, path)
            for k, row in enumerate(sound):
                where = f"{path}: row {k}"
                if dtype is None:
                    made = _pictures_of(row[column], reader, broken, where)
                else:
                    values = _numbers(row[column], dtype, None if dtype.kind == "f" else whole, where)
                    order = likely_axes((len(part), *values.shape), str(path)) if order is None else order
                    made = [arranged(values[None], order)[0] if order else values]
                number = row[label] if label else None
                if label and not (isinstance(number, int) and 0 <= number < len(class_names)):
                    raise ValueError(f"{where} has the class {number}: drop the rows without a class")
                for values in made:
                    held.append(place > 0)
                    labels.extend([] if number is None else [number])
                    yield values

    x = gather(itertools.islice(rows(), limit), folder)
    if not len(x):
        raise ValueError(f"{path}: no sample is left: there is none, or all were skipped")
    count = len(x)
    otherwise: tuple[str, ...] = ()
    if dtype is not None and dtype.kind == "f" and isinstance(x, Tensor):
        scaled, whole = as_levels(x.numpy(), levels, str(path))
        x, otherwise = torch.from_numpy(scaled), hint(scaled) if levels is None else ()
    data = ArrayDataset(
        x,
        torch.tensor(labels[:count], dtype=torch.int64) if class_names else None,
        levels=reader.kind.levels if reader.kind else whole,
        classes=len(class_names),
        class_names=class_names,
        name=str(path),
        how=images if pictures else None,
        held=torch.tensor(held[:count]) if any(held[:count]) else None,
    )
    data.found = replace(data.found, left=tuple(left), otherwise=otherwise)
    return data


def _parts(loaded: Any, path: Path) -> tuple[list[Any], list[str]]:
    """The part to train on and that to hold out, and the others in words."""
    kinds = {PARTS.get(str(name).lower(), str(name)): str(name) for name in loaded}
    if "train" not in kinds:
        raise ValueError(f"{path}: name one of its parts, such as {path / str(next(iter(loaded)))}")
    chosen = [kinds["train"], *[kinds[kind] for kind in ("val", "test") if kind in kinds][:1]]
    return [loaded[name] for name in chosen], [f"the part {name}" for name in loaded if name not in chosen]


def _columns(kinds: dict[str, Any], path: Path) -> tuple[str, str | None]:
    """The names of the columns of the samples and of the classes."""
    import datasets

    labels = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    pictures = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    numbers = [
        name
        for name in kinds
        if name not in labels + pictures and _type(kinds[name]).startswith(("int", "uint", "float", "bool"))
    ]
    if len(pictures or numbers) != 1 or len(labels) > 1:
        raise ValueError(
            f"{path}: wanted one column of pictures or of numbers and at most one of classes; got {', '.join(kinds)}: "
            "select the columns before saving"
        )
    return (pictures or numbers)[0], next(iter(labels), None)


def _check(part: Any, path: Path) -> None:
    try:
        part.data.validate(full=True)  # before any value is used: of damaged offsets Arrow reads what is not there
    except Exception as error:
        raise ValueError(f"{path}: its tables are damaged ({reason(error)}): save it again") from error


def _pictures_of(value: Any, reader: Reader, broken: Broken, where: str) -> list[NDArray[Any]]:
    """Undecoded, so that the bytes go through the checks of our own reader."""
    if (content := value["bytes"]) is None:
        raise ValueError(f"{where} names a file instead of holding a picture: embed them on saving")
    return reader.met(lambda: content, where, broken)


def _numbers(value: Any, dtype: np.dtype, levels: int | None, where: str) -> NDArray[Any]:
    try:
        values = np.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} has no {dtype} numbers ({reason(error)}): drop it") from error
    return as_levels(values, levels, where)[0]


def _type(kind: Any) -> str:
    """The type of a column's numbers, such as float32."""
    while hasattr(kind, "feature"):
        kind = kind.feature
    return str(getattr(kind, "dtype", ""))
