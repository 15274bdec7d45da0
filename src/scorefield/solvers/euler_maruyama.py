"""Euler-Maruyama for the reverse-time family of SDEs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._inputs import matching
from scorefield._noise import NoiseSource
from scorefield.processes import Knot, diffusion_and_slope
from scorefield.score import Denoiser, Score
from scorefield.solvers.solver import Solver, Step, check_eta


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """x_b = x_a + [f - (1 + eta)/2 (g^2 s + d(g^2)/dx)] h + g sqrt(eta |h|) z,  h = b - a.

    (Anderson 1982; Song et al. 2021, eq. 6 and 13.) Every eta has the same marginals in the limit of small steps.
    Forward in time, b > a, the factor is (1 - eta)/2, so that eta = 1 simulates the forward process. For any process;
    where g depends on the state, its component i may depend on component i of x alone. Explicit in time, hence unstable
    where ((1 + eta)/2 g^2 / sigma^2 + a) |h| > 2: few steps diverge, exponential methods do not. In the noise a step is
    (1 - eta r) x + sqrt(2 eta r) sigma z, r = |a h|, which makes 1 + (eta r)^2 of a variance of 1: for 0 < eta < 1 take
    equal steps of the log-SNR, not of time, where g grows beyond bounds, as that of Rectified and Cosine
    (docs/solvers.md). The step is the true gap of the grid, where the published code takes 1/N on a grid with N - 1
    gaps.

    Args:
        eta: noise, >= 0: 1 is Anderson's reverse SDE, 0 the probability-flow ODE (Euler's method).
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
        h = next.t - now.t
        share = 0.5 * (1 - math.copysign(self.eta, h))
        if isinstance(model, Denoiser) and share:
            # s = (alpha D - x) / sigma^2, so that the drift is a x + share g^2 / sigma^2 (x - alpha D)
            pull, denoised = share * (now.g / now.sigma) ** 2, model(x, now.time)
            if now.alpha == 1 and now.a == 0:  # the same in one pass over the memory
                y = torch.lerp(x, denoised, -h * pull)
            else:
                y = ((1 + h * (now.a + pull)) * x).add_(denoised, alpha=-h * pull * now.alpha)
            if self.eta:
                y.add_(noise.normal(x), alpha=now.g * math.sqrt(self.eta * abs(h)))
            return Step(y)
        y, g, _ = without_noise(model, x, now, next, self.eta)
        return Step(y + math.sqrt(self.eta * abs(h)) * g * noise.normal(x) if self.eta else y)


def without_noise(model: Score, x: Tensor, now: Knot, next: Knot, eta: float) -> tuple[Tensor, Tensor, Tensor | float]:
    """x + [f - share (g^2 s + d(g^2)/dx)] h, g and dg/dx."""
    t, h = now.time, next.t - now.t
    share = 0.5 * (1 - math.copysign(eta, h))
    g, slope = diffusion_and_slope(model.sde, x, t)
    y = x + h * model.sde.drift(x, t)
    if share:  # not for the forward process itself
        y = y - (h * share) * (g**2 * matching(model.score(x, t), x, model) + 2 * g * slope)
    return y, g, slope
