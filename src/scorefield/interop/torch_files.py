"""Files that torch.save wrote, read without running anything from them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

LARGEST_PICKLE = 64 << 20  # bytes of what a file says beside its tensors


def read_torch(path: Path) -> Any:
    """What a file of torch.save holds: tensors and plain values alone, on the CPU.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if zipfile.is_zipfile(path):
        _check_members(path)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of what is no file of torch.save
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split()).rpartition("WeightsUnpickler error: ")[2].partition(" was not")[0]
        raise ValueError(
            f"{path}: not read, since it holds what could run code ({reason[:200]}): only tensors and plain values are"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, AttributeError, IndexError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged, or not a file of torch.save ({reason}): use another copy of it") from error


def _check_members(path: Path) -> None:
    """Refuses archives that torch.save does not write: members outside of their folder, or packed."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}): use another copy of it") from error
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or len(parts) < 2:
            raise ValueError(f"{path}: has a member {member.filename!r}, which torch.save does not write: not read")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"{path}: has a packed member {member.filename!r}, which torch.save does not write: not read"
            )
        if parts[-1] == "data.pkl" and member.file_size > LARGEST_PICKLE:
            raise ValueError(
                f"{path}: describes its tensors in {member.file_size} bytes; not read beyond {LARGEST_PICKLE}"
            )


def _numpy_numbers() -> list[Any]:
    """What the pickle of a NumPy number is made of: optimisers have such learning rates."""
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    names = ["numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"]
    scalar = np._core.multiarray.scalar  # pyright: ignore
    return [*((scalar, name) for name in names), np.dtype, *kinds]
