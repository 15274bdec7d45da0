"""RePaint."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.guidance.measurement import Label, Measurement
from scorefield.guidance.replacement import replaced
from scorefield.operators import Linear, Noiseless
from scorefield.score import Score
from scorefield.sde import Knot
from scorefield.solvers import Solver, Step
from scorefield.solvers.solver import advance


class RePaint(Solver):
    """Takes each step several times, down with `Replacement` and up again by noise  (Lugmayr et al. 2022, algorithm 1).

    The rounds let the rest of the state agree with what was put in. The paper's jumps are of one step here, and A may
    be any linear operator; without noise in y.

    Args:
        solver: any; what it remembers is forgotten at each round. The paper's is `Ancestral()`.
        operator: A.
        y: (1, *measurement) for all samples, or one row for each.
        repeats: the paper's U, in [1, 255]: network calls for each step of a solver that makes one.
    """

    label: ClassVar[Label] = Label.HEURISTIC

    def __init__(self, solver: Solver, operator: Linear, y: Tensor, repeats: int = 10) -> None:
        if not 1 <= repeats < CHILDREN:
            raise ValueError(f"repeats must lie in [1, {CHILDREN}); got {repeats}")
        self.solver, self.repeats = solver, repeats
        self.measurement = Measurement(operator, y, Noiseless())

    @property
    def convergence_order(self) -> int:
        """0: the samples are not from the posterior, however fine the grid."""
        return 0

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def select(self, rows: Int64[Tensor, "m"], n: int) -> RePaint:
        """Keeps the rows of y."""
        kept = self.measurement.select(rows, n)
        return RePaint(self.solver.select(rows, n), kept.linear, kept.y, self.repeats)

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
