"""RePaint."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.guidance.guided_solver import GuidedSolver
from scorefield.guidance.replacement import replaced
from scorefield.operators import Linear, MeasurementNoise
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers import Ancestral, Solver, Step
from scorefield.solvers.solver import advance


class RePaint(GuidedSolver):
    """Takes each step several times, down with `Replacement` and up again by noise  (Lugmayr et al. 2022, algorithm 1).

    The rounds let the rest of the state agree with what was put in. The paper's jumps are of one step here, and A may
    be any linear operator.

    Args:
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        noise: taken no notice of: y counts as exact.
        solver: any, by default the paper's `Ancestral()`; what it remembers is forgotten at each round.
        repeats: the paper's U, in [1, 255]: network calls for each step of a solver that makes one.
    """

    def __init__(
        self,
        operator: Linear,
        y: Tensor,
        noise: MeasurementNoise,
        solver: Solver | None = None,
        repeats: int = 10,
    ) -> None:
        super().__init__(operator, y, noise)
        if not 1 <= repeats < CHILDREN:
            raise ValueError(f"repeats must lie in [1, {CHILDREN}); got {repeats}")
        self.solver, self.repeats = solver or Ancestral(), repeats

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """The rounds of one step; a last one onto the data is taken once."""
        rounds = self.repeats if next.sigma else 1
        for k in range(rounds):
            own = noise.child(k)
            if k:
                spread = math.sqrt((now.sigma / now.alpha) ** 2 - (next.sigma / next.alpha) ** 2)
                x = (now.alpha / next.alpha) * x + (now.alpha * spread) * own.child(0).normal(x)
            x, *_ = advance(self.solver, model, x, now, next, None, noise=own.child(1))
            z = own.child(2).normal(x) if next.sigma else 0 * x
            x = replaced(self.measurement, x, next, z, 1.0)
        return Step(x)
