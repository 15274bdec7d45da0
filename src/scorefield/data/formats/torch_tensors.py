"""Tensors that torch.save wrote, read without running anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._memory import check_unpacked
from scorefield._torch_files import read_torch
from scorefield.data.formats.contract import Format, Opened, Unread, Variable


def opened(path: Path, most: float | None) -> Opened:
    """The tensor of a file, or those of a list or dictionary by their places and names."""
    check_unpacked(path.stat().st_size, f"{path}: its tensors", most)  # which it holds as they are
    found: list[Variable] = []
    left: list[str] = []
    for name, value in _named(read_torch(path, str(path))):
        if isinstance(value, Tensor) and not value.is_sparse and not value.is_quantized and value.ndim:
            found.append(_variable(name, value))
        else:
            left.append(f"{name}: {type(value).__name__}")
    return Opened(found, tuple(left[:8]))


def _named(held: Any) -> Iterator[tuple[str, Any]]:
    """Tensors by their names: TensorDataset and lists have numbers."""
    if isinstance(held, dict):
        yield from ((str(name), value) for name, value in held.items())
    elif isinstance(held, list | tuple):
        yield from ((str(k), value) for k, value in enumerate(held))
    elif isinstance(held, Tensor):
        yield "tensor", held
    else:
        raise Unread(f"holds {type(held).__name__}, not a tensor: torch.save(tensor, path)")


def _variable(name: str, tensor: Tensor) -> Variable:
    plain = tensor.detach()
    brief = plain.dtype == torch.bfloat16
    dtype = (plain[:0].float() if brief else plain[:0]).numpy().dtype

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        some = plain[torch.from_numpy(index)]
        return (some.float() if brief else some.resolve_conj().resolve_neg()).numpy()

    return Variable(name, tuple(plain.shape), dtype, rows, ("bfloat16 in the file",) if brief else (), (), len(plain))


TORCH = Format("torch", "", (".pt", ".pth"), opened)
