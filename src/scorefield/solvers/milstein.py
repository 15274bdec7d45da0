"""Milstein's method for the reverse-time SDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers.euler_maruyama import without_noise
from scorefield.solvers.solver import Solver, Step, check_eta


@dataclass(frozen=True)
class Milstein(Solver):
    """Euler-Maruyama plus (eta / 2) g (dg/dx) (dW^2 - |h|), for diffusions g(x, t)  (Milstein 1975; Kloeden & Platen).

        x_b = x_a + [f - (1 + eta)/2 (g^2 s + d(g^2)/dx)] h + sqrt(eta) g dW + (eta / 2) g (dg/dx) (dW^2 - |h|)

    with h = b - a, of strong order 1 where Euler-Maruyama has 1/2. For a diffusion g(t) that does not depend on the
    state, hence for every Gaussian process, the last term vanishes and this *is* Euler-Maruyama. Component i of g may
    depend on component i of x alone; the score must be that of the process. Stability: see `EulerMaruyama`.

    Args:
        eta: noise, >= 0: 1 is Anderson's reverse SDE, 0 the probability-flow ODE.
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
        y, g, slope = without_noise(model, x, now, next, self.eta)
        if not self.eta:
            return Step(y)
        h = abs(next.t - now.t)
        dw = math.sqrt(h) * noise.normal(x)
        return Step(y + math.sqrt(self.eta) * g * dw + 0.5 * self.eta * g * slope * (dw**2 - h))
