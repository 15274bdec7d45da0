"""Operators of other libraries for states of any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor, nn

from scorefield.operators.operator import Linear, LinearOperator, Operator


class AnyPrecision(nn.Module):
    """An operator that computes in its own precision what it is given in another, and returns it in that other.

    Args:
        operator: of any kind.

    Attributes:
        gram: the operator's own, if it has one.
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.gram: float | None = getattr(operator, "gram", None)

    def A(self, x: Tensor) -> Tensor:
        """A(x) in x's precision."""
        return in_any_precision(self.operator.A, x)

    def __repr__(self) -> str:
        return repr(self.operator)


class LinearAnyPrecision(AnyPrecision):
    """The same of a linear operator.

    Args:
        operator: A.
    """

    operator: Linear

    def A_adjoint(self, y: Tensor) -> Tensor:
        """A^T y in y's precision."""
        return in_any_precision(self.operator.A_adjoint, y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A^+ y in y's precision."""
        return in_any_precision(self.operator.A_dagger, y)


@overload
def any_precision(operator: Linear) -> Linear: ...
@overload
def any_precision(operator: Operator) -> Operator: ...
def any_precision(operator: Operator) -> Operator:
    """The operator itself if it is one of ours, which follow the precision of what they are given, or made to do so."""
    if isinstance(operator, LinearOperator | AnyPrecision):
        return operator
    return LinearAnyPrecision(operator) if isinstance(operator, Linear) else AnyPrecision(operator)


def in_any_precision(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """function(v) in the precision of v, by that of v in float32 or float64, whichever it is not in, if it fails.

    Objects do not tell in which precision they compute, and torch's operations refuse to mix them.
    """
    try:
        made = function(v)
    except RuntimeError as error:
        other = torch.float64 if v.dtype.to_real() == torch.float32 else torch.float32
        try:
            made = function(v.to(other.to_complex() if v.is_complex() else other))
        except (RuntimeError, TypeError):  # a device without float64 has another error
            raise error from None
    return made.to(v.dtype.to_complex() if made.is_complex() else v.dtype.to_real())
