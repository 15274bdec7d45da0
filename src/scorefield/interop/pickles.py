"""Pickles of networks, read as what they hold: tensors, plain values and the names of classes, which are never run."""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.dtype)}


class Held:
    """An object of a class that is not run: its name and what it held.

    Attributes:
        name: of the class.
        state: what the object held by name.
    """

    name = ""
    state: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError(f"a {self.name} holds a {type(state).__name__} instead of named values")
        self.state = state

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The parameters and buffers of a module and of its parts, by their usual names."""
        found: dict[str, Tensor] = {}
        for kind in ("_parameters", "_buffers"):
            for name, value in _named(self.state.get(kind)):
                if isinstance(value, Tensor):
                    found[prefix + name] = value
        for name, part in _named(self.state.get("_modules")):
            if isinstance(part, Held):
                found |= part.tensors(f"{prefix}{name}.")
        return found


def read_pickle(path: Path) -> Any:
    """What a pickle holds: plain values, tensors, and a `Held` for each module.

    Nothing of the file is run: neither functions that it names, of which only those that put tensors together are
    known, nor source text that it brings along, as NVIDIA's pickles do.

    Raises:
        ValueError: the file is damaged, or names anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # these pickles hold nothing else
            return _Reader(file).load()
    except _Refused as error:
        raise ValueError(f"{path}: not read, since it names {error}, which could run code") from error
    except Exception as error:  # whatever a damaged file makes of the constructors
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged, or not a pickle of a network ({reason})") from error


class _Refused(Exception):
    """A name that is not read."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        if known is not None:
            return known
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module.startswith("torch.nn.modules.") and name.isidentifier():
            return type(name, (Held,), {"name": name})
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a part outside of itself")


def _named(values: Any) -> list[tuple[str, Any]]:
    return [(str(name), value) for name, value in values.items()] if isinstance(values, Mapping) else []


def _persistent(meta: Any) -> Held:
    """An object of NVIDIA's `torch_utils.persistence`, without its source text."""
    held = Held()
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise ValueError("a persistent object has no class_name")
    held.name = meta["class_name"]
    held.__setstate__(meta.get("state"))
    return held


def _storage(data: Any) -> torch.TypedStorage:
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError(f"holds a {type(storage).__name__} instead of the numbers of a tensor")
    return storage


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError(f"a tensor is made of a {type(storage).__name__}")
    return torch.empty(0, dtype=storage.dtype).set_(storage.untyped(), offset, torch.Size(size), stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    return text.encode(encoding)


KNOWN: Mapping[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): dict,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # pyright: ignore
    ("numpy._core.multiarray", "scalar"): np._core.multiarray.scalar,  # pyright: ignore
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # pyright: ignore
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # pyright: ignore
}
