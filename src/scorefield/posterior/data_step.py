"""Draws from a normal law times a likelihood: the step of split samplers that looks at the data."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import leaf, recording
from scorefield._noise import NoiseSource
from scorefield._shapes import event_sum, expand
from scorefield.guidance import Measurement
from scorefield.operators import Gaussian, Linear, Noiseless


def data_step(
    measurement: Measurement, x: Float[Tensor, "b *event"], spread: float, *, noise: NoiseSource, steps: int
) -> Float[Tensor, "b *event"]:
    """A draw from p(z) proportional to N(z; x, spread^2 I) p(y | z).

    For a linear A and normal noise, or none, exact by Matheron's rule: with z' from N(x, spread^2 I) and y' = A z' +
    noise,  z = z' + spread^2 A^T (spread^2 A A^T + S)^-1 (y - y').  Otherwise by `steps` steps of the
    Metropolis-adjusted Langevin algorithm, which ask for a likelihood.

    Args:
        measurement: what is known.
        x: the middle of the normal law.
        spread: its standard deviation, > 0.
        noise: of this step; its children's steps are numbered here.
        steps: of the Langevin algorithm, >= 1.
    """
    z = x + spread * noise.child(0).normal(x)
    if not (isinstance(measurement.operator, Linear) and isinstance(measurement.noise, Gaussian | Noiseless)):
        return _langevin(measurement, x, z, spread, noise, steps)
    nothing = 0 * measurement.linear.A(z)
    disturbed = measurement.noise.sample(nothing, noise=noise.child(1))
    _, weights = measurement.ridge(z, spread**2, disturbed)
    return z + spread**2 * measurement.linear.A_adjoint(weights)


def _langevin(measurement: Measurement, x: Tensor, z: Tensor, spread: float, noise: NoiseSource, steps: int) -> Tensor:
    """MALA; the step of each sample is doubled or halved by whether it was accepted in the first half of the steps."""

    def evaluated(z: Tensor) -> tuple[Tensor, Tensor]:
        with recording():
            at = leaf(z)
            log_density = measurement.log_likelihood(at) - 0.5 * event_sum((at - x) ** 2) / spread**2
            (gradient,) = torch.autograd.grad(log_density.sum(), at)
        return log_density.detach(), gradient

    size = torch.full((len(z),), 0.5 * spread**2, dtype=z.dtype, device=z.device)
    density, gradient = evaluated(z)
    for k in range(steps):
        own = noise.child(2).at(k)
        eps = expand(size, z)
        proposed = z + eps * gradient + (2 * eps).sqrt() * own.normal(z)
        new_density, new_gradient = evaluated(proposed)
        forth = event_sum((proposed - z - eps * gradient) ** 2) / (4 * size)
        back = event_sum((z - proposed - eps * new_gradient) ** 2) / (4 * size)
        odds = new_density - density + forth - back
        accepted = own.uniform(size, draw=1).log() < odds
        z = torch.where(expand(accepted, z), proposed, z)
        density = torch.where(accepted, new_density, density)
        gradient = torch.where(expand(accepted, z), new_gradient, gradient)
        if k < steps // 2:
            size = torch.where(accepted, 1.3 * size, 0.6 * size).clamp_max(spread**2)
    return z
