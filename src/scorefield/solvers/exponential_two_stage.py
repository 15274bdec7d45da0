"""The exponential method with one extra stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.solver import Solver, Step, check_eta, tau_step


@dataclass(frozen=True)
class ExponentialTwoStage(Solver):
    """DPM-Solver++(2S) and its SDE form: D at a point inside of the step  (Lu et al., arXiv 2211.01095, algorithm 1).

    With y = x / alpha, h the step of tau, H = (1 + eta) h and phi = 1 + expm1(-H) / H

        y_c = e^{-c H} y + (1 - e^{-c H}) D_a + n_c
        y'  = e^{-H} y + (1 - e^{-H}) D_a + phi (D_c - D_a) / c + n_b

    Both stages see one path of the noise,

        n_c = s_c sqrt(1 - e^{-2 eta c h}) z_1        n_b = e^{-(1-c) H} n_c + s_b sqrt(1 - e^{-2 eta (1-c) h}) z_2

    where independent noises, as in public code, cost an order. phi / c is the exact weight, (1 - e^{-H}) / (2 c) the
    paper's, equal to leading order. Exact in its linear part: stable for any steps.

    Args:
        eta: noise, >= 0.
        fraction: c in (0, 1), the place of the inner point; 1/2 is the published one.
    """

    eta: float = 0.0
    fraction: float = 0.5

    def __post_init__(self) -> None:
        check_eta(self.eta)
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must lie in (0, 1); got {self.fraction}")

    @property
    def convergence_order(self) -> int:
        """2."""
        return 2

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        h, eta, c, denoiser = tau_step(now, next, self.eta), self.eta, self.fraction, as_denoiser(model)
        inner = denoiser.sde.knot_at(now.log_snr + c * (next.log_snr - now.log_snr))
        full = (1 + eta) * h
        y, first = x / now.alpha, denoiser(x, now.time)
        y_c = math.exp(-c * full) * y - math.expm1(-c * full) * first
        y_b = math.exp(-full) * y - math.expm1(-full) * first
        if eta:
            n_c = inner.sigma / inner.alpha * math.sqrt(-math.expm1(-2 * eta * c * h)) * noise.normal(x)
            rest = next.sigma / next.alpha * math.sqrt(-math.expm1(-2 * eta * (1 - c) * h))
            y_c = y_c + n_c
            y_b = y_b + math.exp(-(1 - c) * full) * n_c + rest * noise.normal(x, draw=1)
        second = denoiser(inner.alpha * y_c, inner.time)
        phi = 1 + math.expm1(-full) / full
        return Step(next.alpha * (y_b + (phi / c) * (second - first)))
