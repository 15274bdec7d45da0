"""Split Gibbs sampling."""

from __future__ import annotations

import math
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
from scorefield.solvers import ExponentialAdams
from scorefield.solvers.solver import nth


class SplitGibbs(OuterLoop):
    """A Gibbs sampler of p(x) N(z; x, rho^2 I) p(y | z)  (Xu & Chi 2024; Wu et al. 2024, "PnP-DM", algorithm 1).

        z ~ N(z; x, rho^2 I) p(y | z)                 see `data_step`
        x ~ p(x) N(z; x, rho^2 I)                     the reverse SDE from sigma / alpha = rho, begun at alpha z

    whose x has the posterior's law as rho -> 0. rho falls by equal factors over the first `annealing` of the rounds.

    Args:
        denoiser: of the prior.
        operator: A, any.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A(x_0).
        rounds: of the Gibbs sampler, >= 2.
        steps: network calls in each round, >= 2.
        rho: first and last, falling; the last well below the noise's std, and then many rounds. No less than twice the
            process's least noise.
        annealing: share of the rounds in which rho falls, in (0, 1].
        langevin_steps: of the data step where A is not linear or the noise not normal, >= 1.
    """

    label: ClassVar[Label] = Label.ASYMPTOTICALLY_EXACT

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        rounds: int = 100,
        steps: int = 10,
        rho: tuple[float, float] = (10.0, 0.03),
        annealing: float = 0.8,
        langevin_steps: int = 50,
    ) -> None:
        super().__init__(denoiser, operator, y, noise, rounds)
        if not (rounds >= 2 and steps >= 2 and langevin_steps >= 1 and 0 < annealing <= 1):
            raise ValueError(
                "wanted rounds >= 2, steps >= 2, langevin_steps >= 1 and annealing in (0, 1]; got "
                f"{rounds}, {steps}, {langevin_steps} and {annealing}"
            )
        if not 0 < rho[1] <= rho[0]:
            raise ValueError(f"rho must fall and stay above 0; got {rho}")
        self.steps, self.rho, self.annealing, self.langevin_steps = steps, rho, annealing, langevin_steps

    def run(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        like: Float[Tensor, "b *event"],
        noise: Noise,
        tick: Callable[[], object],
    ) -> Float[Tensor, "b *event"]:
        """Samples of a batch."""
        x, solver = noise.normal(like), ExponentialAdams(2, corrector=False, eta=1.0)
        (finest,) = denoiser.sde.knots([denoiser.sde.t_min])
        falling, least = math.ceil(self.annealing * self.rounds) - 1, 2 * finest.sigma / finest.alpha
        for k in range(self.rounds):
            own = nth(noise, k)
            share = min(1.0, k / max(1, falling))
            rho = max(least, self.rho[0] * (self.rho[1] / self.rho[0]) ** share)
            z = data_step(measurement, x, rho, noise=own, steps=self.langevin_steps)
            knots = knots_between(denoiser.sde, rho, min(0.002, 0.1 * rho), self.steps)
            x = integrate(denoiser, knots[0].alpha * z, [*(a.t for a in knots), 0.0], solver, noise=own)
            tick()
        return x
