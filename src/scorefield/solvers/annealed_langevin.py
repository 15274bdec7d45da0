"""Annealed Langevin dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers.langevin import Langevin
from scorefield.solvers.solver import Solver, Step, nth


@dataclass(frozen=True)
class AnnealedLangevin(Solver):
    """Some corrector steps at each noise level, from the states of the one before  (Song & Ermon 2019, algorithm 1).

    The paper's steps x + a/2 s + sqrt(a) z with a = epsilon sigma_i^2 / sigma_L^2 are those of `Langevin(snr)` with
    snr = sqrt(epsilon) / (2 sigma_L); its levels are `grids.smld`. The states at the first level are the prior's, which
    needs no steps. Ends with the denoise step on a grid that ends at 0
    (Jolicoeur-Martineau et al. 2021).

    Args:
        corrector: a method at a fixed time, by default the paper's with its epsilon = 2e-5 and sigma_L = 0.01.
        steps: of the corrector at each level, the paper's T, >= 1.
    """

    corrector: Solver = field(default_factory=lambda: Langevin(0.2236))
    steps: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.steps < CHILDREN**2:
            raise ValueError(f"steps must lie in [1, {CHILDREN**2}); got {self.steps}")

    @classmethod
    def ncsnv2(cls, ratio: float, steps: int = 5) -> AnnealedLangevin:
        """The step size of NCSNv2 for a number of steps  (Song & Ermon 2020, "Improved techniques", technique 4).

        Steps of size r sigma^2 take the noise's variance from ratio^2 sigma^2 to

            sigma^2 [(1 - r)^(2 steps) (ratio^2 - q) + q],    q = 2 r / (1 - (1 - r)^2)

        and r is where this is nearest to sigma^2.

        Args:
            ratio: of the levels, sigma_i / sigma_{i+1} > 1.
            steps: at each level, >= 1.
        """
        from scipy.optimize import minimize_scalar  # heavy, and nothing else here needs it

        if not (1 < ratio < math.inf and steps >= 1):
            raise ValueError(f"wanted ratio > 1 and steps >= 1; got {ratio} and {steps}")

        def excess(log_r: float) -> float:
            r = math.exp(log_r)
            q = 2 / (2 - r)
            return ((1 - r) ** (2 * steps) * (ratio**2 - q) + q - 1) ** 2

        best: Any = minimize_scalar(excess, bounds=(math.log(1e-8), 0.0), method="bounded", options={"xatol": 1e-10})
        return cls(Langevin(math.sqrt(math.exp(float(best.x)) / 2)), steps)

    @property
    def convergence_order(self) -> int:
        """0: the corrector's bias at the last level stays, however fine the grid."""
        return 0

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """The steps at one level."""
        y, info = x if math.isnan(next.alpha) else (next.alpha / now.alpha) * x, None
        for k in range(self.steps):
            y, state, _, info = self.corrector.step(model, y, next, next, state, noise=nth(noise, k))
        return Step(y, state, info=info)
