"""What solvers ask of a model at least."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
