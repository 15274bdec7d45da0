"""The reverse diffusion sampler of Song et al."""

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
class ReverseDiffusion(Solver):
    """x_b = (2 - A) x_a + (1 + eta)/2 G^2 s(x_a) + sqrt(eta) G z  (Song et al. 2021, eq. 46-47).

    The reverse process discretised in the way of the forward chain x_a = A x_b + G z, here the exact one between the
    two times: A = alpha_a / alpha_b and G^2 = sigma_a^2 - A^2 sigma_b^2. For VE it is SMLD's ancestral sampler with
    more noise; for VP x has the factor 2 - sqrt(1 - beta) where DDPM has 1 / sqrt(1 - beta). Long steps widen the
    samples: on VE 5 equal steps of the log-SNR 4 times, 10 not.

    Args:
        eta: noise, >= 0: 1 is the published sampler, 0 its probability-flow form (eq. 47).
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        check_eta(self.eta)

    @property
    def convergence_order(self) -> int:
        """1."""
        return 1

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        tau_step(now, next, self.eta)
        ratio = now.alpha / next.alpha
        variance = now.sigma**2 - (ratio * next.sigma) ** 2
        pull = 0.5 * (1 + self.eta) * variance / now.sigma**2  # times (alpha D - x), which is sigma^2 s
        denoised = as_denoiser(model)(x, now.time)
        y = ((2 - ratio - pull) * x).add_(denoised, alpha=pull * now.alpha)
        return Step(y.add_(noise.normal(x), alpha=math.sqrt(self.eta * variance)) if self.eta else y)
