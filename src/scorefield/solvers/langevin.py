"""Langevin dynamics at a fixed time: a corrector for `PredictorCorrector`, or a sampler by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield._shapes import event_sum, expand
from scorefield.score import Score
from scorefield.sde import Knot
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Langevin(Solver):
    """x' = x + eps s + sqrt(2 eps) z at the time of `next`, eps = 2 r (snr |z| / |s|)^2  (Song et al. 2021, alg. 4-5).

    r = (alpha_a / alpha_b)^2 for a step from a to b: the 1 - beta_i of the published VP corrector, and 1 for VE. The
    norms are those of each sample, where the published code averages them over the batch.

    Args:
        snr: "signal-to-noise ratio" of the update, > 0: 0.16 for VE images in the literature.
    """

    snr: float = 0.16

    def __post_init__(self) -> None:
        if not self.snr > 0:
            raise ValueError(f"snr must be positive; got {self.snr}")

    @property
    def convergence_order(self) -> int:
        """0: a corrector does not move in time, and its bias does not vanish with the gaps of the grid."""
        return 0

    @property
    def calls(self) -> int:
        """1."""
        return 1

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One update; `now.t == next.t` when the states are already where they shall be."""
        score, z = model.score(x, next.time), noise.normal(x)
        damping = (now.alpha / next.alpha) ** 2 if not math.isnan(now.alpha) else 1.0
        squares = event_sum(score**2).clamp_min(1e-30)  # a score of zero has nowhere to go, however long the step
        eps = 2 * damping * self.snr**2 * event_sum(z**2) / squares
        return Step(x + expand(eps, x) * score + expand((2 * eps).sqrt(), x) * z)
