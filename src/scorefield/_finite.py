"""The one place that looks whether results are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Diverged(ValueError):
    """Results that are not finite, or values of the model's space that stand for no data.

    Attributes:
        rows: of which samples, where that is known; the others are as they would be without these.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class Doubtful(UserWarning):
    """Finite results that hardly mean anything."""


@runtime_checkable
class _Process(Protocol):
    @property
    def T(self) -> float: ...


def require_finite(values: Float[Tensor, "n *event"], what: str, process: _Process, model: object = None) -> None:
    """Refuses results of n samples on a process if any is NaN or infinite.

    Raises:
        Diverged: which they are; and how many weights of the model are not finite, if any.
    """
    if bool(torch.isfinite(values).all()):
        return
    rows = (~torch.isfinite(values)).reshape(len(values), -1).any(1).nonzero().flatten().tolist()
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    broken = not_finite(model.state_dict()) if isinstance(model, nn.Module) else ""
    remedy = (
        f"Of the model's weights {broken}: take another copy of it, or an earlier checkpoint"
        if broken
        else "Is the model finite everywhere? If so, take more steps, a solver that is stable for any number of them, "
        "float64 or a smaller T; or leave these rows out"
    )
    raise Diverged(
        f"{len(rows)} of {len(values)} {what} are NaN or infinite, on {type(process).__name__} with T = {process.T} in "
        f"{str(values.dtype).removeprefix('torch.')}: rows {shown}. {remedy}",
        rows,
    )


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """How many numbers of named tensors are NaN or infinite, in words; empty if none is."""
    suspects = {name: value for name, value in tensors.items() if not _adds_up(value)}
    strange = {name: int((~torch.isfinite(value)).sum()) for name, value in suspects.items()}
    if not (count := sum(strange.values())):
        return ""
    first = next(name for name, some in strange.items() if some)
    return f"{count} of {sum(map(Tensor.numel, tensors.values()))} are NaN or infinite, the first in {first}"


def _adds_up(value: Tensor) -> bool:
    """Whether the sum is finite, as it is of finite numbers unless they are huge: a look of few milliseconds."""
    return not value.is_floating_point() or math.isfinite(value.detach().sum().item())
