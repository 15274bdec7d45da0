"""Heun's method in the variables of EDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Heun(Solver):
    """The trapezoidal rule for d(x/alpha) / d(sigma/alpha) = ehat  (Karras et al. 2022, algorithm 1).

        e_a = (x_a - alpha_a D(x_a)) / sigma_a
        y_b = x_a/alpha_a + (s_b - s_a) e_a                       s = sigma / alpha
        x_b/alpha_b = x_a/alpha_a + (s_b - s_a) (e_a + e_b) / 2

    For any Gaussian process, since x/alpha turns each of them into EDM's.
    """

    @property
    def convergence_order(self) -> int:
        """2."""
        return 2

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        model = as_denoiser(model)
        ratio = next.alpha / now.alpha
        gap = next.sigma - ratio * now.sigma  # alpha_b (s_b - s_a)
        first = (x - now.alpha * model(x, now.time)) / now.sigma
        y = ratio * x + gap * first
        second = (y - next.alpha * model(y, next.time)) / next.sigma
        return Step(y + (0.5 * gap) * (second - first))
