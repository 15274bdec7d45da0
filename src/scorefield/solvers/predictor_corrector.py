"""Predictor-corrector sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """A step of the predictor and `corrections` steps of the corrector at one time  (Song et al. 2021, algorithm 1).

    Args:
        predictor: any solver.
        corrector: a solver that acts at a fixed time, such as `Langevin`.
        corrections: corrector steps for each predictor step, >= 1.
        corrector_first: correct at the start of each step, as the published code does, instead of at its end.
            Either way a last step onto the data is the predictor's alone.
    """

    predictor: Solver
    corrector: Solver
    corrections: int = 1
    corrector_first: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.corrections < CHILDREN:
            raise ValueError(
                f"corrections must lie in [1, {CHILDREN}); got {self.corrections}: use the predictor alone for none"
            )

    @property
    def convergence_order(self) -> int:
        """0: the corrector's bias at the last times stays, however fine the grid, unless it has none."""
        return 0

    @property
    def reaches_data(self) -> bool:
        """Whether the predictor does; no corrector acts there."""
        return self.predictor.reaches_data

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step of each."""
        predicted, corrected = state or (None, None)
        if next.sigma == 0:
            return self.predictor.step(model, x, now, next, predicted, noise=noise.child(0))
        if self.corrector_first:
            x, corrected, info = self._correct(model, x, now, now, corrected, noise)
            step = self.predictor.step(model, x, now, next, predicted, noise=noise.child(0))
            return Step(step.x, (step.state, corrected), step.error, info)
        step = self.predictor.step(model, x, now, next, predicted, noise=noise.child(0))
        x, corrected, info = self._correct(model, step.x, now, next, corrected, noise)
        return Step(x, (step.state, corrected), step.error, info)

    def _correct(
        self, model: Score, x: Tensor, now: Knot, next: Knot, state: Any, noise: NoiseSource
    ) -> tuple[Tensor, Any, Any]:
        info = None
        for k in range(self.corrections):
            x, state, _, info = self.corrector.step(model, x, now, next, state, noise=noise.child(k + 1))
        return x, state, info
