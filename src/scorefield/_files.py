"""Files of tensors: written completely or not at all, read without running anything, checked before use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Makes a file by `write`; it replaces an older one only when it is complete."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, which replaces an older one only when it is complete."""
    write_file(path, lambda file: file.write(text.encode()))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Writes named tensors and plain values to a safetensors file, which replaces an older one when it is complete."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    data = save(copies, {"scorefield": json.dumps(about or {})})
    write_file(path, lambda file: file.write(data))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the plain values of a safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("scorefield", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error}): use another copy of it") from error


def check_tensors(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Compares names and shapes; the error lists what is missing, unexpected, or of another shape."""
    problems = [f"missing {name}" for name in wanted if name not in got]
    problems += [f"unexpected {name}" for name in got if name not in wanted]
    problems += [
        f"{name} has shape {tuple(got[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in got and got[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"{where} does not fit this model: {'; '.join(problems[:8])}{more}")
