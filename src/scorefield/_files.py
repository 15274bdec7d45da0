"""Files of tensors: written completely or not at all, read without running anything, checked before use."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scorefield._finite import not_finite

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.part", re.DOTALL)  # what has not got its name yet
DESCRIPTION = "description_sha256"  # in a file of tensors, of what it says beside them; older files have none
DTYPES = {  # of the numbers in a safetensors file
    **{f"F{bits}": getattr(torch, f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    "BF16": torch.bfloat16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Makes a file by `write`; it replaces an older one, or a link of its name, only when it is complete."""
    with _unfinished(path, _new_file) as (part, handle):
        with os.fdopen(os.dup(handle), "wb") as file:
            write(file)
        part.replace(path)


@contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """A directory to write into, which gets its name when it is complete and is gone if the block fails.

    Raises:
        FileExistsError: there is a file or a link of that name, or a directory that is not empty.
    """

    def check() -> None:
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            kind = "is a link" if path.is_symlink() else "is not empty" if path.is_dir() else "is a file"
            raise FileExistsError(f"{path}: {kind}: name another directory")

    check()
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with unfinished_directory(path) as part:
        yield part
        check()  # others may have been faster
        part.rename(path)


@contextmanager
def unfinished_directory(path: Path) -> Generator[Path]:
    """A directory beside `path` with a name of its own, for the block to fill and to rename; otherwise it is gone."""
    with _unfinished(path, _new_directory) as (part, _):
        yield part


def sweep(folder: Path) -> None:
    """Removes what writers that were killed have left in a folder; those that are at work hold a lock."""
    for part in folder.glob(".*.part"):
        if UNFINISHED.fullmatch(part.name):
            with suppress(OSError), held(part):
                _remove(part)


@contextmanager
def held(path: Path) -> Generator[None]:
    """Holds the lock of a file or a directory in the block.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it is a link, or its file system knows no locks.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def discard(path: Path) -> None:
    """Removes a directory, as far as that is possible: in part it is never seen under its name."""
    with suppress(OSError):
        gone = path.with_name(_own_name(path))
        path.rename(gone)
        _remove(gone)


def not_a_link(path: Path) -> Path:
    """The path of a folder inside of one that others may have made, unless it leads elsewhere.

    Raises:
        ValueError: it is a link.
    """
    if path.is_symlink():
        raise ValueError(f"{path}: is a link, and files elsewhere would be changed: put the folder itself in its place")
    return path


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    return False


@contextmanager
def alone(path: Path) -> Generator[None]:
    """Waits until no other process is in such a block for this file, which it may read, change and write."""
    sweep(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with suppress(OSError):  # of a file system that knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if is_at(handle, lock):  # or else the one before has removed it
            break
        os.close(handle)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], int]) -> Generator[tuple[Path, int]]:
    """What `make` opens under a name of its own, locked; at the end of the block it is gone, unless it was renamed."""
    while True:
        part = path.with_name(_own_name(path))
        with _named(part, path):
            handle = make(part)
        with suppress(OSError):  # of a file system that knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if is_at(handle, part):  # or else another process has swept it away before it was locked
            break
        os.close(handle)
    try:
        with _named(part, path):
            yield part, handle
    finally:
        _remove(part)
        os.close(handle)


@contextmanager
def _named(part: Path, path: Path) -> Generator[None]:
    """Errors name the file that was to be made, also those of a full disk, which name none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename2 is None:
            error.filename = str(error.filename or part).replace(str(part), str(path))
        raise


def _own_name(path: Path) -> str:
    return f".{path.name[:50]}.{secrets.token_hex(8)}.part"


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # which follows no link


def _new_directory(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY)


def _remove(path: Path) -> None:
    """Removes a file or a directory, as far as that is possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, which replaces an older one only when it is complete."""
    write_file(path, lambda file: file.write(text.encode()))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Writes named tensors and plain values to a safetensors file, which replaces an older one when it is complete."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    bytearray(2 * sum(value.nbytes for value in copies.values()))  # a MemoryError, where `save` would end the process
    told = json.loads(json.dumps({**(about or {}), "sha256": digest(copies)}))  # with the keys that a reader finds
    data = save(copies, {"scorefield": json.dumps({**told, DESCRIPTION: digest_of_values(told)})})
    write_file(path, lambda file: file.write(data))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the plain values of a safetensors file; their digests are checked if it has any."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = read_json((file.metadata() or {}).get("scorefield", "{}"))
            if about.pop(DESCRIPTION, known := digest_of_values(about, DESCRIPTION)) != known:
                raise ValueError("its description is not the one that was written")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.pop("sha256", None) not in (None, digest(tensors)):
            raise ValueError("its tensors are not those that were written")
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error}): use another copy of it") from error
    return tensors, about


def tensor_heads(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by what its head says of them: on the device `meta`, without numbers."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: torch.empty(part.get_shape(), dtype=DTYPES[part.get_dtype()], device="meta")
                for name, part in slices.items()
            }
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error}): use another copy of it") from error


def read_json(text: str, infinite: bool = False) -> dict[str, Any]:
    """A JSON object without the numbers that JSON does not have (NaN, Infinity).

    Args:
        text: of the file.
        infinite: take Infinity all the same, which others write into their configurations.
    """

    def different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"it has the name {next(name for name in names if names.count(name) > 1)[:80]!r} twice")
        return found

    def constant(name: str) -> float:
        if infinite and name != "NaN":
            return float(name)
        raise ValueError(f"{name} is not a number of JSON")

    def real(digits: str) -> float:
        if math.isinf(value := float(digits)) and not infinite:
            raise ValueError(f"{digits[:40]} is larger than any number here")
        return value

    try:
        value = json.loads(text, parse_constant=constant, parse_float=real, object_pairs_hook=different)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' bytes, in the order of their names."""
    found = hashlib.sha256()
    for _, value in sorted(tensors.items()):
        found.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest_of_values(values: Mapping[str, Any], without: str = "") -> str:
    """SHA-256 of values as JSON has them, however they are laid out in a file, but for that of one name.

    Raises:
        ValueError: they are nested too deeply.
    """
    try:
        text = json.dumps({name: value for name, value in values.items() if name != without}, sort_keys=True)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()


def check_tensors(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Compares names, shapes and kinds of numbers; the error lists what is missing, unexpected or different.

    Numbers that are not finite are refused and counted as well.
    """
    problems = [f"missing {name}" for name in wanted if name not in got]
    problems += [f"unexpected {name}" for name in got if name not in wanted]
    problems += [
        f"{name} has shape {tuple(got[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in got and got[name].shape != wanted[name].shape
    ]
    problems += [
        f"{name} holds {got[name].dtype} instead of {wanted[name].dtype}"
        for name in wanted
        if name in got and _kind(got[name]) != _kind(wanted[name])
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"{where} does not fit this model: {'; '.join(p[:200] for p in problems[:8])}{more}")
    if strange := not_finite({name: value for name, value in got.items() if not value.is_meta}):
        raise ValueError(
            f"{where}: of its numbers {strange}: the training has diverged; take an earlier checkpoint, or train again "
            "with a smaller learning rate"
        )


def _kind(x: Tensor) -> torch.dtype | str:
    return "real" if x.is_floating_point() else x.dtype
