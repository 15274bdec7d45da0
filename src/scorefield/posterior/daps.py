"""Decoupled annealing posterior sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield.guidance import Label, Measurement
from scorefield.operators import MeasurementNoise, Operator
from scorefield.posterior.data_step import data_step
from scorefield.posterior.levels import knots_between
from scorefield.posterior.sampler import OuterLoop
from scorefield.sampling import integrate
from scorefield.score import Denoiser
from scorefield.solvers import DDIM
from scorefield.solvers.solver import nth


class DAPS(OuterLoop):
    """Annealed states that are drawn afresh at each level  (Zhang et al. 2024, "DAPS", algorithm 1).

    From x_t the probability-flow ODE leads to a clean xhat; then  x_0 ~ N(x_0; xhat, r^2 I) p(y | x_0)  with r = s =
    sigma / alpha (see `data_step`), and the next state is  alpha x_0 + sigma z  at the next level, so that large errors
    of one level are not carried on.

    Args:
        denoiser: of the prior.
        operator: A, any.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A(x_0).
        levels: >= 2.
        steps: network calls at each level, >= 1.
        end: the last level's sigma / alpha, > 0.
        langevin_steps: of the data step where A is not linear or the noise not normal, >= 1.
    """

    label: ClassVar[Label] = Label.HEURISTIC

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        levels: int = 100,
        steps: int = 5,
        end: float = 0.01,
        langevin_steps: int = 50,
    ) -> None:
        super().__init__(denoiser, operator, y, noise, levels)
        if not (levels >= 2 and steps >= 1 and langevin_steps >= 1 and end > 0):
            raise ValueError(
                f"wanted levels >= 2, steps >= 1, langevin_steps >= 1 and end > 0; got {levels}, {steps}, "
                f"{langevin_steps} and {end}"
            )
        self.levels, self.steps, self.end, self.langevin_steps = levels, steps, end, langevin_steps

    def run(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        like: Float[Tensor, "b *event"],
        noise: Noise,
        tick: Callable[[], object],
    ) -> Float[Tensor, "b *event"]:
        """Samples of a batch."""
        sde, x0 = denoiser.sde, like
        levels = knots_between(sde, float("inf"), self.end, self.levels)
        x = sde.prior.sample(like, noise)
        for k, knot in enumerate(levels):
            own, s = nth(noise, k), knot.sigma / knot.alpha
            if k:
                x = knot.alpha * x0 + knot.sigma * own.child(3).normal(like)
            times = [a.t for a in knots_between(sde, s, min(0.5 * s, self.end), self.steps)]
            x0 = integrate(denoiser, x, [*times, 0.0], DDIM(), noise=own)
            x0 = data_step(measurement, x0, s, noise=own, steps=self.langevin_steps)
            tick()
        return x0
