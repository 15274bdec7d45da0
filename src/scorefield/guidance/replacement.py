"""Replacing what is measured of the state by the noised measurement."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.guidance.measurement import Label, Measurement
from scorefield.operators import Linear, Noiseless
from scorefield.score import Score
from scorefield.sde import Knot
from scorefield.solvers import Solver, Step
from scorefield.solvers.solver import advance


class Replacement(Solver):
    """After each step of a solver or corrector, the measured part of the state is put where the measurement was noised.

        x <- x + relaxation A^+ (alpha y + sigma A z - A x)

    For a mask this is inpainting and for the grey of a picture colourisation as in Song et al. 2021 (appendix I.2); for
    any other linear A, Song et al. 2022 ("Solving inverse problems in medical imaging", eq. 9-10). In
    `PredictorCorrector` wrap both, as the papers do:
    `PredictorCorrector(Replacement(EulerMaruyama(), a, y), Replacement(Langevin(), a, y))`.

    It takes y for exact: noise in y is copied into the sample.

    Args:
        solver: any.
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        relaxation: the lambda of Song et al. 2022, in (0, 1]; 1 puts all of the measurement in.
    """

    label: ClassVar[Label] = Label.HEURISTIC

    def __init__(self, solver: Solver, operator: Linear, y: Tensor, relaxation: float = 1.0) -> None:
        if not 0 < relaxation <= 1:
            raise ValueError(f"relaxation must lie in (0, 1]; got {relaxation}")
        self.solver, self.relaxation = solver, relaxation
        self.measurement = Measurement(operator, y, Noiseless())

    @property
    def convergence_order(self) -> int:
        """0: the samples are not from the posterior, however fine the grid."""
        return 0

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    @property
    def adaptive(self) -> bool:
        """As the solver, whose own steps then pass without replacement."""
        return self.solver.adaptive

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Replacement:
        """Keeps the rows of y."""
        kept = self.measurement.select(rows, n)
        return Replacement(self.solver.select(rows, n), kept.linear, kept.y, self.relaxation)

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """The solver's step and the replacement."""
        step = advance(self.solver, model, x, now, next, state, noise=noise.child(0))
        z = noise.child(1).normal(x) if next.sigma else 0 * x
        return step._replace(x=replaced(self.measurement, step.x, next, z, self.relaxation))


def replaced(
    measurement: Measurement, x: Float[Tensor, "b *event"], at: Knot, z: Float[Tensor, "b *event"], relaxation: float
) -> Float[Tensor, "b *event"]:
    """x + relaxation A^+ (alpha y + sigma A z - A x) = x + relaxation A^+ (alpha y - A (x - sigma z))."""
    a = measurement.linear
    clean = a.A(x - at.sigma * z)
    return x + relaxation * a.A_dagger(at.alpha * measurement.rows(clean) - clean)
