"""Pickles as NVIDIA's `torch_utils.persistence` writes them: every module as source text, class name and state."""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCE = "raise SystemExit('source text of a pickle was run')"


class EasyDict(dict):
    pass


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("only written, never read by this")


class Persistent:
    """An object of a class that brings its source text along."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.name, self.state = name, dict(state)

    def __reduce__(self) -> Any:
        meta = EasyDict(type="class", version=6, module_src=SOURCE, class_name=self.name, state=EasyDict(self.state))
        return _reconstruct_persistent_obj, (meta,)


@contextlib.contextmanager
def nvidias_modules() -> Iterator[None]:
    """The names under which pickle finds the two above, while it writes."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    util.EasyDict = EasyDict  # type: ignore[attr-defined]
    packages = {"torch_utils": types.ModuleType("torch_utils"), "dnnlib": types.ModuleType("dnnlib")}
    sys.modules |= {**packages, "torch_utils.persistence": persistence, "dnnlib.util": util}
    homes = {_reconstruct_persistent_obj: "torch_utils.persistence", EasyDict: "dnnlib.util"}
    before = {thing: thing.__module__ for thing in homes}
    for thing, home in homes.items():
        thing.__module__ = home
    try:
        yield
    finally:
        for thing, home in before.items():
            thing.__module__ = home
        for name in (*packages, "torch_utils.persistence", "dnnlib.util"):
            del sys.modules[name]


def module(name: str, weights: Mapping[str, Tensor], more: Mapping[str, Any] | None = None) -> Any:
    """A module of a class and the parts that the names of its weights tell of."""
    state: dict[str, Any] = {"_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict()}
    parts: dict[str, dict[str, Tensor]] = {}
    for path, value in weights.items():
        first, dot, rest = path.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = value
        elif first in ("freqs", "phases", "resample_filter"):
            state["_buffers"][first] = value
        else:
            state["_parameters"][first] = nn.Parameter(value)
    for part, inside in parts.items():
        if part in ("enc", "dec"):  # not a class of theirs
            blocks = nn.ModuleDict()
            blocks._modules.update(module("Part", inside).state["_modules"])
            state["_modules"][part] = blocks
        else:
            state["_modules"][part] = module("Part", inside)
    return Persistent(name, {**state, "training": False, **(more or {})})


def write_edm2(path: Path, weights: Mapping[str, Tensor], told: Mapping[str, Any], encoder: Any) -> None:
    """A pickle of EDM2 with these weights, in 16 bits, and arguments of its Precond."""
    halves = {name: value.half() for name, value in weights.items()}
    net = module("Precond", halves, {"_init_args": (), "_init_kwargs": EasyDict(told)})
    with nvidias_modules(), path.open("wb") as file:
        pickle.dump({"ema": net, "encoder": encoder, "dataset_kwargs": EasyDict(path="x.zip"), "loss_fn": None}, file)


def write_edm(
    path: Path, weights: Mapping[str, Tensor], told: Mapping[str, Any], outer: str = "EDMPrecond", **values: Any
) -> None:
    """A pickle of EDM with a SongUNet of these weights and arguments, under a preconditioner."""
    inner = module("SongUNet", weights, {"_init_args": (), "_init_kwargs": EasyDict(told)})
    state = {"_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(model=inner)}
    net = Persistent(outer, {**state, "_init_args": (), "_init_kwargs": EasyDict(values), **values})
    held = {"ema": net, "loss_fn": Persistent("EDMLoss", {"P_mean": -1.2}), "augment_pipe": None}
    with nvidias_modules(), path.open("wb") as file:
        pickle.dump(held | {"dataset_kwargs": EasyDict(path="cifar10.zip", size=torch.Size([3]))}, file)
