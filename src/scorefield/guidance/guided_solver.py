"""Solvers that know of a measurement."""

from __future__ import annotations

import copy
from typing import ClassVar

from jaxtyping import Int64
from torch import Tensor

from scorefield.guidance.measurement import Label, Measurement
from scorefield.operators import Linear, MeasurementNoise
from scorefield.solvers import Solver


class GuidedSolver(Solver):
    """A solver that takes the prior's model and makes samples that agree with a measurement.

    Args:
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each, in the model's space.
        noise: the law of y given A x_0, in the units of y.

    Attributes:
        label: what is known of the samples.
    """

    label: ClassVar[Label] = Label.HEURISTIC

    def __init__(self, operator: Linear, y: Tensor, noise: MeasurementNoise) -> None:
        self.measurement = Measurement(operator, y, noise)

    @property
    def convergence_order(self) -> int:
        """0: the samples are not from the posterior, however fine the grid."""
        return 0

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def select(self, rows: Int64[Tensor, "m"], n: int) -> GuidedSolver:
        """Keeps the rows of y."""
        other = copy.copy(self)
        for name, part in vars(self).items():
            if isinstance(part, Solver | Measurement):
                setattr(other, name, part.select(rows, n))
        return other
