"""What solvers ask of a model at least."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._device import moved, widest
from scorefield._inputs import Array, as_tensor
from scorefield.processes import SDE


@runtime_checkable
class Score(Protocol):
    """A score function and the process that it belongs to."""

    @property
    def sde(self) -> SDE:
        """The forward process."""
        ...

    def score(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b *event"]:
        """grad_x log p_t(x); `t` is () or (b,)."""
        ...


@runtime_checkable
class LogDensity(Score, Protocol):
    """A score that knows what it is the gradient of."""

    def log_density(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b"]:
        """log p_t(x) up to a constant of t; `t` is () or (b,)."""
        ...


@runtime_checkable
class LevelMap(Score, Protocol):
    """A score that also knows where its probability flow leads."""

    def aim(self, x: Float[Tensor, "b *event"], t: Tensor, to: Tensor) -> Float[Tensor, "b *event"]:
        """Where the chord of the path from (x, t) to the time `to` meets the data."""
        ...

    def jump(self, x: Float[Tensor, "b *event"], t: Tensor, to: Tensor) -> Float[Tensor, "b *event"]:
        """The states at the time `to`, from 0 to t."""
        ...


@contextlib.contextmanager
def evaluating(model: object) -> Generator[None]:
    """The model's modules in evaluation mode inside the block, as they were afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def placement(model: object) -> dict[str, Any]:
    """Where samples of the model live: on the device of its first parameter, in float64 if that is, else float32."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if not tensors:
        return {"dtype": torch.get_default_dtype(), "device": torch.device("cpu")}
    double = tensors[0].dtype == torch.float64
    return {"dtype": torch.float64 if double else torch.float32, "device": tensors[0].device}


def as_states(model: object, values: Array, name: str = "x") -> Tensor:
    """Samples as finite real numbers on the model's device: float32 and float64 as they are, others in its dtype."""
    x, place = as_tensor(values, name), placement(model)
    if x.is_complex():
        raise ValueError(f"{name} is complex: give real and imaginary parts as two channels")
    if x.ndim == 0:
        raise ValueError(f"{name} needs an axis of samples, (n, *event); got a single number")
    if not (isinstance(model, nn.Module) and any(True for _ in model.parameters())):
        place["device"] = x.device  # which a model without weights goes to
    dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else place["dtype"]
    x = x.to(place["device"], dtype if dtype != torch.float64 else widest(place["device"]))
    if not bool(torch.isfinite(x).all()):
        strange = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {strange} values that are not finite: clean the data first")
    return x


PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def in_its_precision(
    net: nn.Module, x: Tensor, noise: Tensor, cond: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A network's input, noise level and conditions on x's device, real numbers in the dtype of its weights."""
    dtype = _dtype_of(net)
    dtype = dtype if dtype in PRECISIONS else x.dtype
    given = {name: as_tensor(value, name) for name, value in cond.items()}
    given = {name: moved(v.to(dtype) if v.is_floating_point() else v, x.device) for name, v in given.items()}
    return x.to(dtype), moved(noise.to(dtype), x.device), given


def _dtype_of(module: nn.Module) -> torch.dtype | None:
    """Of the first weight: what next(module.parameters()) tells, in a tenth of the time."""
    for weight in module._parameters.values():  # pyright: ignore[reportPrivateUsage]
        if weight is not None:
            return weight.dtype
    for child in module._modules.values():  # pyright: ignore[reportPrivateUsage]
        if child is not None and (found := _dtype_of(child)):
            return found
    return None
