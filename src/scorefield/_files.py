"""Files of tensors: written completely or not at all, read without running anything, checked before use."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

DTYPES = {  # of the numbers in a safetensors file
    **{f"F{bits}": getattr(torch, f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    "BF16": torch.bfloat16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Makes a file by `write`; it replaces an older one only when it is complete."""
    part = path.with_name(path.name + ".part")
    with naming(path):
        _write(part, path, write)


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Adds the file's name to an error of the system that has none: those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _write(part: Path, path: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """A directory to write into, which gets its name when it is complete and is gone if the block fails.

    Raises:
        FileExistsError: there is a file of that name, or a directory that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path}: {'is not empty' if path.is_dir() else 'is a file'}: name another directory")
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, which replaces an older one only when it is complete."""
    write_file(path, lambda file: file.write(text.encode()))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Writes named tensors and plain values to a safetensors file, which replaces an older one when it is complete."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    bytearray(2 * sum(value.nbytes for value in copies.values()))  # a MemoryError, where `save` would end the process
    data = save(copies, {"scorefield": json.dumps({**(about or {}), "sha256": digest(copies)})})
    write_file(path, lambda file: file.write(data))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the plain values of a safetensors file; a digest of the tensors is checked if it has one."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = read_json((file.metadata() or {}).get("scorefield", "{}"))
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

    try:
        value = json.loads(text, parse_constant=constant, object_pairs_hook=different)
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


def check_tensors(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Compares names, shapes and kinds of numbers; the error lists what is missing, unexpected or different."""
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


def _kind(x: Tensor) -> torch.dtype | str:
    return "real" if x.is_floating_point() else x.dtype
