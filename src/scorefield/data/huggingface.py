"""Data sets that the library `datasets` has saved to disk."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.images import Images, Unfit, to_array
from scorefield.data.members import Broken, reason


def is_huggingface(path: Path) -> bool:
    """Whether it is a folder that `Dataset.save_to_disk` wrote."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def huggingface_rows(
    path: Path, options: Images, broken: Broken
) -> tuple[Iterator[tuple[NDArray[Any], str | None]], tuple[str, ...]]:
    """(sample, class) of each row, and the names of the classes.

    The samples are the one column of pictures, or else the one column of numbers; the classes are the one column that
    the data set declares to be of class labels. Of a saved DatasetDict the part `train` is taken.
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
    if isinstance(loaded, datasets.DatasetDict):
        if "train" not in loaded:
            raise ValueError(f"{path}: name one of its parts, such as {path / str(next(iter(loaded)))}")
        loaded = loaded["train"]
    kinds: dict[str, Any] = dict(loaded.features)
    labels = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    pictures = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    numbers = [
        name
        for name in kinds
        if name not in labels + pictures and _type(kinds[name]).startswith(("int", "uint", "float"))
    ]
    column = (pictures or numbers)[0] if len(pictures or numbers) == 1 else None
    if column is None or len(labels) > 1:
        raise ValueError(
            f"{path}: wanted one column of pictures or of numbers and at most one of classes; got {', '.join(kinds)}: "
            "select the columns before saving"
        )
    if rest := [name for name in kinds if name not in (column, *labels)]:
        warnings.warn(
            f"{path}: the columns {', '.join(rest)} are not used; classes are those of type ClassLabel "
            "(Dataset.class_encode_column)",
            stacklevel=3,
        )
    if pictures:  # undecoded: the bytes go through the checks of our own reader
        loaded = loaded.cast_column(column, datasets.Image(decode=False))
    try:
        loaded.data.validate(full=True)  # before any value is used: of damaged offsets Arrow reads what is not there
    except Exception as error:
        raise ValueError(f"{path}: its tables are damaged ({reason(error)}): save it again") from error

    dtype = {"uint8": np.uint8, "float64": np.float64}.get(_type(kinds[column]), np.float32)
    class_names: tuple[str, ...] = tuple(kinds[labels[0]].names) if labels else ()

    def rows() -> Iterator[tuple[NDArray[Any], str | None]]:
        mode: str | None = None
        for k, row in enumerate(loaded):
            if pictures:
                content = row[column]["bytes"]
                if content is None:
                    raise ValueError(f"{path}: row {k} names a file instead of holding a picture: embed them on saving")
                try:
                    values, mode = to_array(content, options, mode)
                except Unfit as error:
                    raise ValueError(f"{path}: row {k}: {error}") from error
                except Exception as error:  # a decoder may raise anything on damaged bytes
                    broken.meet(f"{path}: row {k}", error)
                    continue
            else:
                values = np.asarray(row[column], dtype)
            number = row[labels[0]] if labels else None
            if labels and not (isinstance(number, int) and 0 <= number < len(class_names)):
                raise ValueError(f"{path}: row {k} has the class {number}: drop the rows without a class")
            yield values, None if number is None else class_names[number]

    return rows(), class_names


def _type(kind: Any) -> str:
    """The type of a column's numbers, such as float32."""
    while hasattr(kind, "feature"):
        kind = kind.feature
    return str(getattr(kind, "dtype", ""))
