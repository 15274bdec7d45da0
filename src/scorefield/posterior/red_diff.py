"""Regularisation by denoising diffusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import leaf, recording
from scorefield._noise import Noise
from scorefield.guidance import Label, Measurement
from scorefield.operators import Linear, MeasurementNoise, Operator
from scorefield.operators.operator import flat
from scorefield.posterior.levels import knots_between
from scorefield.posterior.sampler import OuterLoop
from scorefield.score import Denoiser


class REDdiff(OuterLoop):
    """Optimises one point under the prior as a regulariser  (Mardani et al. 2024, "RED-diff", algorithm 1).

    From large noise to small, with x_t = alpha mu + sigma z and s = sigma / alpha, a step of Adam on

        |y - A(mu)|^2 / 2 + weight s (ehat(x_t) - z)^T mu        (ehat held fixed)

    It begins at A^T (A A^T + S)^-1 y if A is linear, else at 0. It returns a point estimate: samples of different seeds
    hardly differ, so their spread says nothing.

    Args:
        denoiser: of the prior.
        operator: A, any differentiable one.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A(x_0); the method takes no notice of it.
        steps: >= 2.
        rate: of Adam, > 0.
        weight: of the regulariser, > 0.
    """

    label: ClassVar[Label] = Label.OPTIMISER

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        steps: int = 500,
        rate: float = 0.05,
        weight: float = 0.25,
    ) -> None:
        super().__init__(denoiser, operator, y, noise, steps)
        if not (steps >= 2 and rate > 0 and weight > 0):
            raise ValueError(f"wanted steps >= 2, rate > 0 and weight > 0; got {steps}, {rate} and {weight}")
        self.steps, self.rate, self.weight = steps, rate, weight

    def run(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        like: Float[Tensor, "b *event"],
        noise: Noise,
        tick: Callable[[], object],
    ) -> Float[Tensor, "b *event"]:
        """Estimates of a batch."""
        a = measurement.operator
        mu = torch.zeros_like(like)
        if isinstance(a, Linear):
            mu = a.A_adjoint(measurement.ridge(mu, 1.0)[1])
        mu = leaf(mu.clone())
        optimiser = torch.optim.Adam([mu], lr=self.rate, betas=(0.9, 0.99))
        for k, knot in enumerate(knots_between(denoiser.sde, float("inf"), 0.0, self.steps)):
            z = noise.at(k).normal(like)
            x = knot.alpha * mu.detach() + knot.sigma * z
            regulariser = self.weight * knot.sigma / knot.alpha * (denoiser.noise(x, knot.time) - z)
            with recording():
                fit = 0.5 * flat(measurement.residual(mu)).square().sum() + (regulariser * mu).sum()
                (mu.grad,) = torch.autograd.grad(fit, mu)
            optimiser.step()
            tick()
        return mu.detach()
