"""Twisted sequential Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from scorefield.guidance import DPS, Label, MomentMatching, PiGDM
from scorefield.guidance.twist import Twist
from scorefield.operators import Linear, MeasurementNoise, Operator
from scorefield.posterior.kernel import noise_of_step
from scorefield.posterior.particles import PLAIN, ParticleSampler
from scorefield.score import Denoiser
from scorefield.solvers import Solver


class TwistedSMC(ParticleSampler):
    """A cloud of particles that a guided denoiser leads and whose weights correct it  (Wu et al. 2023, "TDS").

    Args:
        denoiser: of the prior.
        operator: A, any differentiable one.
        y: (1, *measurement).
        noise: the law of y given A(x_0); it must have a likelihood.
        twist: the guidance, `PiGDM`, `MomentMatching` or `DPS`; by default PiGDM for a linear A, else DPS.
        count: number of particles, >= 1; as many as samples if that is more.
        steps: of the grid, >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
        solver: of the particles' steps, one whose noise is normal and whose mean needs the model once, such as
            `ExponentialAdams` of any order, `Ancestral` or `EulerMaruyama`, with eta > 0; by default the first of these
            of order 1.
    """

    label: ClassVar[Label] = Label.ASYMPTOTICALLY_EXACT
    differentiates: ClassVar[bool] = True

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        twist: Callable[[Denoiser, Operator, Tensor, MeasurementNoise], PiGDM | MomentMatching | DPS] | None = None,
        count: int = 500,
        steps: int = 100,
        threshold: float = 0.5,
        solver: Solver = PLAIN,
    ) -> None:
        if len(y) != 1:
            raise ValueError(f"a cloud of particles is for one measurement; got {len(y)}: make a cloud for each")
        noise.log_likelihood(y, y)  # now rather than after the last step, if there is none
        twist = twist or (PiGDM if isinstance(operator, Linear) else DPS)
        guided = twist(denoiser, operator, y, noise)
        if not isinstance(guided, Twist):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"wanted PiGDM, MomentMatching or DPS as the twist; got {type(guided).__name__}")
        super().__init__(denoiser, guided, count, steps, threshold, solver)
        for now, next in pairwise(denoiser.sde.knots(self.times[:-1])):
            noise_of_step(solver, denoiser.sde, now, next)  # now rather than at that step, if it is not known
