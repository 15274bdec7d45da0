"""Stochastic Runge-Kutta methods for additive noise: two network calls a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.solver import Solver, Step, check_eta, tau_step


@dataclass(frozen=True)
class _TwoStage(Solver):
    """dy = f dtau + g dw with y = x / alpha, f = (1 + eta) (D - y), g = sqrt(2 eta) s, which depends on tau alone.

        k1 = f(a, y + g_a (w1 W + h1 H))
        k2 = f(a + c h, y + c h k1 + g_a (w2 W + h2 H))
        y' = y + h ((1 - m) k1 + m k2) + g_a W + (g_b - g_a) (W / 2 - H)

    W ~ N(0, h) is the increment of w and H ~ N(0, h/12) its area above the chord, divided by h. In tau the equation is
    smooth over the whole range. Explicit: stable for steps of tau shorter than 2 / (1 + eta), which exponential methods
    do not need.
    """

    eta: float = 1.0
    _c: ClassVar[float]
    _m: ClassVar[float]
    _first: ClassVar[tuple[float, float]]  # w1, h1
    _second: ClassVar[tuple[float, float]]  # w2, h2
    _area: ClassVar[bool] = True  # whether H is drawn

    def __post_init__(self) -> None:
        check_eta(self.eta)

    @property
    def convergence_order(self) -> int:
        """2."""
        return 2

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        h, eta, denoiser = tau_step(now, next, self.eta), self.eta, as_denoiser(model)
        middle = next if self._c == 1 else denoiser.sde.knot_at(now.log_snr + self._c * (next.log_snr - now.log_snr))
        y = x / now.alpha
        first = second = y
        last = 0.0
        if eta:
            g_a, g_b = (math.sqrt(2 * eta) * knot.sigma / knot.alpha for knot in (now, next))
            w = math.sqrt(h) * noise.normal(x)
            area = math.sqrt(h / 12) * noise.normal(x, draw=1) if self._area else 0.0
            (w1, h1), (w2, h2) = self._first, self._second
            if w1 or h1:
                first = y + g_a * (w1 * w + h1 * area)
            second = y + g_a * (w2 * w + h2 * area)
            last = g_a * w + (g_b - g_a) * (0.5 * w - area)
        k1 = (1 + eta) * (denoiser(now.alpha * first, now.time) - first)
        second = second + (self._c * h) * k1
        k2 = (1 + eta) * (denoiser(middle.alpha * second, middle.time) - second)
        return Step(next.alpha * (y + h * ((1 - self._m) * k1 + self._m * k2) + last))


@dataclass(frozen=True)
class StochasticHeun(_TwoStage):
    """Heun's method with the noise of the step in its second stage  (Roberts 2012, "Modify the improved Euler scheme").

    Args:
        eta: noise, >= 0.
    """

    _c, _m, _first, _second, _area = 1.0, 1 / 2, (0.0, 0.0), (1.0, 0.0), False


@dataclass(frozen=True)
class SRA1(_TwoStage):
    """Strong order 1.5 for additive noise  (Roessler 2010, "Runge-Kutta methods for the strong approximation", SRA1).

    The second stage has g_a here; the paper's c^(1) = (1, 0) stands for g_b. The order is the same.

    Args:
        eta: noise, >= 0.
    """

    _c, _m, _first, _second = 3 / 4, 2 / 3, (0.0, 0.0), (3 / 4, 3 / 2)


@dataclass(frozen=True)
class ShARK(_TwoStage):
    """Shifted additive-noise Runge-Kutta, of strong order 1.5  (Foster et al. 2023, "High order splitting methods").

    Args:
        eta: noise, >= 0.
    """

    _c, _m, _first, _second = 5 / 6, 3 / 5, (0.0, 1.0), (5 / 6, 1.0)
