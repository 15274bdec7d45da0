"""Files that torch.save wrote, read without running anything from them."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

LARGEST_PICKLE = 64 << 20  # bytes of what a file says beside its tensors


def read_torch(source: Path | io.BytesIO, where: str) -> Any:
    """What a file of torch.save holds: tensors and plain values alone, on the CPU.

    Args:
        source: the file, or its bytes.
        where: what it is, for messages.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{where}: {'is a directory' if source.is_dir() else 'no such file'}")
    if zipfile.is_zipfile(source):
        _check_members(source, where)
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of what is no file of torch.save
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the constructors
        lines = " ".join(str(error).split()) or type(error).__name__
        reason = lines.rpartition("WeightsUnpickler error: ")[2].partition(" was not")[0].partition(" Check the")[0]
        if isinstance(error, pickle.UnpicklingError) and not reason.startswith("Unsupported operand"):
            raise ValueError(
                f"{where}: not read, since it holds what could run code ({reason[:200]}): only tensors and plain "
                "values are"
            ) from error
        raise ValueError(
            f"{where}: damaged, or not a file of torch.save ({reason[:300]}): use another copy of it"
        ) from error


def _check_members(source: Path | io.BytesIO, where: str) -> None:
    """Refuses damaged archives and such as torch.save does not write: members outside of their folder, or packed."""
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            _check_names(members, where)
            spoilt = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise ValueError(f"{where}: damaged ({error}): use another copy of it") from error
    if spoilt is not None:
        raise ValueError(f"{where}: damaged, since {spoilt} is not what was written: use another copy of it")


def _check_names(members: Sequence[zipfile.ZipInfo], where: str) -> None:
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or len(parts) < 2:
            raise ValueError(f"{where}: has a member {member.filename!r}, which torch.save does not write: not read")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"{where}: has a packed member {member.filename!r}, which torch.save does not write: not read"
            )
        if parts[-1] == "data.pkl" and member.file_size > LARGEST_PICKLE:
            raise ValueError(
                f"{where}: describes its tensors in {member.file_size} bytes; not read beyond {LARGEST_PICKLE}"
            )


def _numpy_numbers() -> list[Any]:
    """What the pickle of a NumPy number is made of: optimisers have such learning rates."""
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    names = ["numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"]
    scalar = np._core.multiarray.scalar  # pyright: ignore
    return [*((scalar, name) for name in names), np.dtype, *kinds]
