"""Files that torch.save wrote, read without running anything from them."""

from __future__ import annotations

import contextlib
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from scorefield._skeleton import check_pickle
from scorefield._unpacking import check_different

LARGEST_PICKLE = 8 << 20  # bytes of what a file says beside its tensors
SIZES = {  # bytes of a number in a tensor, by what torch calls it in its files
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


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
    packed = zipfile.is_zipfile(source)
    if packed:
        _check_members(source, where)
    try:
        (_check_zip if packed else _check_plain)(source)
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{where}: damaged, or not a file of torch.save ({reason}): use another copy of it") from error
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of what is no file of torch.save
            warnings.filterwarnings("ignore", "Validating sparse tensor invariants")  # of torch 2.15, which tells of it
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


def _check_zip(source: Path | io.BytesIO) -> None:
    """Looks at what an archive would build, and whether its tensors have the sizes that it says."""
    with zipfile.ZipFile(source) as archive:
        sizes = {PurePosixPath(info.filename): info.file_size for info in archive.infolist()}
        for name, size in sizes.items():
            if name.name == "data.pkl":
                with archive.open(str(name)) as file:
                    parts = check_pickle(file, size)
                for key, wanted in map(_storage, parts):
                    if sizes.get(name.parent / "data" / key) != wanted:
                        raise ValueError(f"a tensor of {wanted} bytes has {sizes.get(name.parent / 'data' / key)}")


def _check_plain(source: Path | io.BytesIO) -> None:
    """Looks at what a file of the older format would build: five pickles, then the numbers."""
    if isinstance(source, Path) and tarfile.is_tarfile(source):
        raise ValueError("it is a tar archive, as torch wrote before version 0.2")
    with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        parts = [part for _ in range(5) for part in check_pickle(file, size)]
        largest = dict(map(_storage, parts))
        if sum(largest.values()) > size - file.tell():
            raise ValueError(f"its tensors have {sum(largest.values())} bytes, of which it holds {size - file.tell()}")


def _storage(part: Any) -> tuple[str, int]:
    """The name of a tensor's numbers and how many bytes they have."""
    match part:
        case ("storage", kind, str(key), _, int(count), *_) if getattr(kind, "name", None) in SIZES and count >= 0:
            return key, SIZES[kind.name] * count
        case _:
            raise ValueError("it has a part that is no tensor")


def _check_members(source: Path | io.BytesIO, where: str) -> None:
    """Refuses damaged archives and such as torch.save does not write: members outside of their folder, or packed."""
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            _check_names(members)
            check_different([PurePosixPath(member.filename) for member in members])
            spoilt = archive.testzip()
    except NotRead as error:
        raise ValueError(f"{where}: {error}: not read") from error
    except Exception as error:  # whatever a damaged file makes of the reader
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{where}: damaged ({reason}): use another copy of it") from error
    if spoilt is not None:
        raise ValueError(f"{where}: damaged, since {spoilt} is not what was written: use another copy of it")


class NotRead(ValueError):
    """What torch.save does not write."""


def _check_names(members: Sequence[zipfile.ZipInfo]) -> None:
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or len(parts) < 2:
            raise NotRead(f"has a member {member.filename[:80]!r}, which torch.save does not write")
        if member.compress_type != zipfile.ZIP_STORED:
            raise NotRead(f"has a packed member {member.filename[:80]!r}, which torch.save does not write")
        if parts[-1] == "data.pkl" and member.file_size > LARGEST_PICKLE:
            raise NotRead(f"describes its tensors in {member.file_size} bytes, of which {LARGEST_PICKLE} are allowed")


def _numpy_numbers() -> list[Any]:
    """What the pickle of a NumPy number is made of: optimisers have such learning rates."""
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    names = ["numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"]
    scalar = np._core.multiarray.scalar  # pyright: ignore
    return [*((scalar, name) for name in names), np.dtype, *kinds]
