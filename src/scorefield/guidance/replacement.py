"""Replacing what is measured of the state by the noised measurement."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.guidance.guided_solver import GuidedSolver
from scorefield.guidance.measurement import Measurement
from scorefield.operators import Linear, MeasurementNoise
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers import Ancestral, Solver, Step
from scorefield.solvers.solver import advance


class Replacement(GuidedSolver):
    """After each step of a solver or corrector, the measured part of the state is put where the measurement was noised.

        x <- x + relaxation A^+ (alpha y + sigma A z - A x)

    For a mask this is inpainting and for the grey of a picture colourisation as in Song et al. 2021 (appendix I.2); for
    any other linear A, Song et al. 2022 ("Solving inverse problems in medical imaging", eq. 9-10). The papers wrap the
    predictor and the corrector of `PredictorCorrector` both.

    Args:
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        noise: taken no notice of: y counts as exact, and its noise is copied into the samples.
        solver: any, by default `Ancestral()`; one with steps of its own takes them between the times of the grid.
        relaxation: the lambda of Song et al. 2022, in (0, 1]; 1 puts all of the measurement in.
    """

    def __init__(
        self,
        operator: Linear,
        y: Tensor,
        noise: MeasurementNoise,
        solver: Solver | None = None,
        relaxation: float = 1.0,
    ) -> None:
        super().__init__(operator, y, noise)
        if not 0 < relaxation <= 1:
            raise ValueError(f"relaxation must lie in (0, 1]; got {relaxation}")
        self.solver, self.relaxation = solver or Ancestral(), relaxation

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
