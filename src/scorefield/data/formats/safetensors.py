"""Safetensors: its library checks the head, and the rows are read where that says that they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.formats.contract import Format, Opened, Variable, raw_rows

TYPES = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": "?",
    "BF16": "<u2",
    "C64": "<c8",
}


def opened(path: Path, most: float | None) -> Opened:
    """The tensors of a file."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as checked:  # pyright: ignore[reportUnknownMemberType]
        names = sorted(checked.keys())
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(size))
    found: list[Variable] = []
    left: list[str] = []
    for name in names:
        kind, shape, (start, _) = (head[name][key] for key in ("dtype", "shape", "data_offsets"))
        if kind not in TYPES:
            left.append(f"{name}: {kind}")
        elif shape:
            brief = kind == "BF16"
            rows = raw_rows(path, 8 + size + start, shape, np.dtype(TYPES[kind]), _widened if brief else _same)
            dtype = np.dtype(np.float32 if brief else TYPES[kind])
            found.append(Variable(name, tuple(shape), dtype, rows, ("bfloat16 in the file",) if brief else ()))
    return Opened(found, tuple(left))


def _same(values: NDArray[Any]) -> NDArray[Any]:
    return values


def _widened(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 are the upper halves of float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)


SAFETENSORS = Format("safetensors", "", (".safetensors",), opened)
