"""A stand-in for a device without float64, such as Apple's: its tensors have values, which the host computes.

Inside `without_float64()` the device `meta` is one. As on a real one, there is no float64, and its tensors do not mix
with those of the host, but for single numbers and indices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE, HOST = torch.device("meta"), torch.device("cpu")
WAITS: list[str] = []  # of the host for the device


class _There(Tensor):
    """A tensor of the device."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> _There:
        if values.dtype == torch.float64:
            raise TypeError("Cannot convert a tensor to float64: the device does not have it")
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, values.shape, **layout, dtype=values.dtype, device=DEVICE)
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """`torch.tensor` and its like copy their numbers to the device out of sight of the other mode."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        numbers = function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if numbers and torch.device(kwargs.get("device") or HOST) == DEVICE:
            return there(function(*args, **{**kwargs, "device": HOST}))
        return function(*args, **kwargs)


@contextlib.contextmanager
def without_float64() -> Generator[list[str]]:
    """Makes the device `meta` one without float64 inside the block; gives what has fetched numbers from it so far."""
    WAITS.clear()
    with _Operations(), _Constructors(), mock.patch.object(torch, "autocast", _autocast):
        yield WAITS


def _autocast(device_type: str, *args: Any, _real: Any = torch.autocast, **kwargs: Any) -> Any:
    """`meta` has none."""
    return contextlib.nullcontext() if device_type == DEVICE.type else _real(device_type, *args, **kwargs)


def there(value: Any) -> Any:
    """A tensor of the host as one of the device."""
    return _There(value) if isinstance(value, Tensor) and not isinstance(value, _There) else value


def _here(value: Any) -> Any:
    return value.values if isinstance(value, _There) else value


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    asked = kwargs.get("device")
    if asked is None and not any(isinstance(v, _There | list | tuple) for v in (*args, *kwargs.values())):
        return function(*args, **kwargs)  # the host's own: most operations
    name, tensors = function._schema.name, [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
    away = [v for v in tensors if isinstance(v, _There)]
    copies = name in ("aten::_to_copy", "aten::copy_")
    if away and not copies and "index" not in name:
        for v in tensors:
            if v.ndim and not isinstance(v, _There):
                raise RuntimeError(
                    f"{name}: tensors of the host and of the device: {[tuple(v.shape) for v in tensors]}"
                )
    place = torch.device(asked) if asked is not None else DEVICE if away else HOST
    if copies and place == DEVICE and kwargs.get("non_blocking") and not away:
        raise RuntimeError("Apple's GPUs read the memory of such a copy after it may have gone to others")
    if away and (name == "aten::_local_scalar_dense" or place == HOST):
        WAITS.append(name)
    if asked is not None:
        kwargs = {**kwargs, "device": HOST}
    made = function(*tree_map(_here, args), **tree_map(_here, kwargs))
    if function._schema.is_mutable:
        if not function._schema.returns:
            return None
        return args[0] if name.endswith("_") else kwargs.get("out", tree_map(there, made) if away else made)
    return tree_map(there, made) if place == DEVICE else made
