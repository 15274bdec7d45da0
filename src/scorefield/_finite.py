"""The one place that looks whether results are finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


class Diverged(ValueError):
    """Results that are not finite, or values of the model's space that stand for no data.

    Attributes:
        rows: of which samples, where that is known; the others are as they would be without these.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


@runtime_checkable
class _Process(Protocol):
    @property
    def T(self) -> float: ...


def require_finite(values: Float[Tensor, "n *event"], what: str, process: _Process) -> None:
    """Refuses results of n samples on a process if any is NaN or infinite.

    Raises:
        Diverged: which they are.
    """
    if bool(torch.isfinite(values).all()):
        return
    rows = (~torch.isfinite(values)).reshape(len(values), -1).any(1).nonzero().flatten().tolist()
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    raise Diverged(
        f"{len(rows)} of {len(values)} {what} are NaN or infinite, on {type(process).__name__} with T = {process.T} in "
        f"{str(values.dtype).removeprefix('torch.')}: rows {shown}. Is the model finite everywhere? If so, take more "
        "steps, a solver that is stable for any number of them, float64 or a smaller T; or leave these rows out",
        rows,
    )
