"""Data sets that the library `datasets` has saved to disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.images import Images, to_array


def is_huggingface(path: Path) -> bool:
    """Whether it is a folder that `Dataset.save_to_disk` wrote."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def huggingface_rows(path: Path, options: Images) -> tuple[Iterator[tuple[NDArray[Any], int | None]], int | None]:
    """(sample, class) of each row, and the number of classes.

    The samples are the one column of pictures, or else the one column of numbers; the classes are the one column that
    the data set declares to be of class labels. Of a saved DatasetDict the part `train` is taken.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"{path}: reading it takes datasets: pip install 'scorefield[huggingface]'") from error
    loaded: Any = datasets.load_from_disk(str(path))
    if isinstance(loaded, datasets.DatasetDict):
        if "train" not in loaded:
            raise ValueError(f"{path}: name one of its parts, such as {path / str(next(iter(loaded)))}")
        loaded = loaded["train"]
    kinds: dict[str, Any] = dict(loaded.features)
    labels = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    pictures = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    numbers = [name for name in kinds if name not in labels + pictures and _numeric(kinds[name])]
    column = (pictures or numbers)[0] if len(pictures or numbers) == 1 else None
    if column is None or len(labels) > 1:
        raise ValueError(
            f"{path}: wanted one column of pictures or of numbers and at most one of classes; got {', '.join(kinds)}: "
            "select the columns before saving"
        )
    if pictures:  # undecoded: the bytes go through the checks of our own reader
        loaded = loaded.cast_column(column, datasets.Image(decode=False))

    def rows() -> Iterator[tuple[NDArray[Any], int | None]]:
        mode: str | None = None
        for k, row in enumerate(loaded):
            if pictures:
                content = row[column]["bytes"]
                if content is None:
                    raise ValueError(f"{path}: row {k} names a file instead of holding a picture: embed them on saving")
                values, mode = to_array(content, options, mode)
            else:
                values = np.asarray(row[column], np.float32)
            yield values, int(row[labels[0]]) if labels else None

    return rows(), kinds[labels[0]].num_classes if labels else None


def _numeric(kind: Any) -> bool:
    inner = kind
    while hasattr(inner, "feature"):
        inner = inner.feature
    return str(getattr(inner, "dtype", "")).startswith(("int", "uint", "float"))
