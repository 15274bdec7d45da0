"""Pickles of networks, read as what they hold: tensors, plain values and the names of classes, which are never run."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield._skeleton import check_pickle
from scorefield._torch_files import read_torch

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

    def named(self, kind: str) -> Mapping[str, Any]:
        """Named values that the object held under a name; none if it held anything else there."""
        values = self.state.get(kind)
        return {str(name): value for name, value in values.items()} if isinstance(values, Mapping) else {}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers of a module and of its parts, by their usual names; of each part once."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Held]] = [("", self)]
        seen = {id(self)}
        while waiting:
            prefix, part = waiting.pop()
            values = {**part.named("_parameters"), **part.named("_buffers")}
            found |= {prefix + name: value for name, value in values.items() if isinstance(value, Tensor)}
            for name, inner in part.named("_modules").items():
                if isinstance(inner, Held) and id(inner) not in seen:
                    seen.add(id(inner))
                    waiting.append((f"{prefix}{name}.", inner))
        return found


class HeldNumbers:
    """An array or a number of NumPy; no memory of a file is given to NumPy but that of plain numbers.

    Attributes:
        values: in float64, in one row.
    """

    values = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, _, kind, _, data = state
        self.values = kind.numbers(data)


class _Kind:
    """The kind of an array's numbers, such as f4, and the order of its bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not (isinstance(code, str) and re.fullmatch("f[248]|[iu][1248]|b1", code)):
            raise ValueError("holds an array of something else than numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def numbers(self, data: Any) -> np.ndarray:
        return np.frombuffer(bytes(data), self.order + self.code).astype(np.float64)


class _Function:
    """A function that a file may name and call, and cannot change."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError("changes what reads it")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("changes what reads it")


def read_pickle(path: Path) -> Any:
    """What a pickle holds: plain values, tensors, and a `Held` for each module.

    Nothing of the file is run: neither functions that it names, of which only those that put tensors together are
    known, nor source text that it brings along, as NVIDIA's pickles do.

    Raises:
        ValueError: the file is damaged, or names anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            check_pickle(file, path.stat().st_size)
            file.seek(0)
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # these pickles hold nothing else
            return _Reader(file).load()
    except _Refused as error:
        raise ValueError(f"{path}: not read, since it names {error}, which could run code") from error
    except Exception as error:  # whatever a damaged file makes of the constructors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: damaged, or not a pickle of a network ({reason})") from error


class _Refused(Exception):
    """A name that is not read."""


# the one written in Python, whose memory does not grow with the numbers that a file gives to its objects
class _Reader(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
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


def _persistent(meta: Any) -> Held:
    """An object of NVIDIA's `torch_utils.persistence`, without its source text."""
    held = Held()
    if not isinstance(meta, Mapping) or not isinstance(meta.get("class_name"), str):
        raise ValueError("a persistent object has no class_name")
    held.name = meta["class_name"]
    held.__setstate__(meta.get("state"))
    return held


def _storage(data: Any) -> torch.TypedStorage:
    storage = read_torch(io.BytesIO(data), "the numbers of a tensor")
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


def _array(*_: Any) -> HeldNumbers:
    return HeldNumbers()


def _number(kind: Any, data: Any) -> HeldNumbers:
    held = HeldNumbers()
    held.__setstate__((None, None, kind, None, data))
    return held


_NUMPY = {
    (f"numpy.{core}.multiarray", name): _Function(make)
    for core in ("core", "_core")
    for name, make in (("_reconstruct", _array), ("scalar", _number))
}
KNOWN: Mapping[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_persistent),
    ("dnnlib.util", "EasyDict"): dict,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("_codecs", "encode"): _Function(_encode),
    ("numpy", "dtype"): _Function(_Kind),
    ("numpy", "ndarray"): "numpy.ndarray",  # named by arrays, and nothing done with it
    **_NUMPY,
}
