"""Measurements that are no linear functions of x, each of what an operator before it has measured."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.operators.operator import Linear, Operator
from scorefield.operators.pointwise import Identity
from scorefield.operators.precision import any_precision


class Quantise(nn.Module):
    """step round(B(x) / step), whose gradient is that of B: the straight-through estimator  (Bengio et al. 2013).

    The true gradient is 0 almost everywhere and guides nothing. Halves round to even.

    Args:
        step: > 0, in the units of B(x).
        operator: B; by default x itself.
    """

    def __init__(self, step: float, operator: Operator | None = None) -> None:
        super().__init__()
        if not 0 < step < math.inf:
            raise ValueError(f"the step of Quantise must be positive; got {step}")
        self.step, self.operator = step, any_precision(operator or Identity())

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """The nearest multiple of the step."""
        y = self.operator.A(x)
        return ((y / self.step).round() * self.step).detach() + (y - y.detach())  # plus 0, with the gradient of y


class Clip(nn.Module):
    """min(max(B(x), low), high): a detector that saturates. Its gradient is 0 beyond the limits.

    Args:
        low: the smallest value, or -inf for no limit.
        high: the largest, or inf.
        operator: B; by default x itself.
    """

    def __init__(self, low: float, high: float, operator: Operator | None = None) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"Clip wanted low < high; got {low} and {high}")
        self.low, self.high, self.operator = low, high, any_precision(operator or Identity())

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """The limited values."""
        return self.operator.A(x).clamp(self.low, self.high)


class PhaseRetrieval(nn.Module):
    """|B x|^2 or |B x| of a linear operator: what remains of a wave on a detector.

    Args:
        operator: B, real or complex.
        amplitude: False for the intensity |B x|^2, True for |B x|, whose gradient at 0 counts as 0.
    """

    def __init__(self, operator: Linear, amplitude: bool = False) -> None:
        super().__init__()
        self.operator, self.amplitude = any_precision(operator), amplitude

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """The size of each number, or its square."""
        wave = self.operator.A(x)
        if self.amplitude:
            return wave.abs()
        return torch.view_as_real(wave).square().sum(-1) if wave.is_complex() else wave.square()
