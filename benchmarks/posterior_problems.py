"""Inverse problems whose posterior is known: the prior is a mixture of 25 normal laws, or one fitted to digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield import VP, GaussianMixture, Noise
from scorefield.operators import Dense, Gaussian, Linear, Mask, SuperResolution, gaussian_sensing
from scorefield.operators.svd import matrix_of

SDE = VP()
SCALE = 8 * math.sqrt(2)  # of the mixtures of 25, so that they have a standard deviation of about 1


class Problem(NamedTuple):
    """A prior, a measurement, the exact posterior, and the unit that distances are given in."""

    prior: GaussianMixture
    operator: Linear
    y: Tensor
    sigma: float
    posterior: GaussianMixture
    unit: float

    @property
    def measured(self) -> tuple[Linear, Tensor, Gaussian]:
        """The operator, y and its noise."""
        return self.operator, self.y, Gaussian(self.sigma)

    @property
    def known(self) -> tuple[GaussianMixture, Linear, Tensor, Gaussian]:
        """The prior and the measurement: the arguments of methods."""
        return self.prior, *self.measured

    def exact(self, n: int, first: int) -> Tensor:
        """Exact samples of the posterior."""
        like = torch.empty(n, *self.prior.event_shape, dtype=torch.float64)
        return self.posterior.marginal(0.0).sample(like, Noise.per_sample(range(first, first + n)))


def mixture(d: int, m: int, mask: bool, sigma: float, seed: int) -> Problem:
    """25 components on a grid that is repeated over d coordinates, 8 standard deviations apart; A a mask or random."""
    g = torch.Generator().manual_seed(seed)
    options = {"generator": g, "dtype": torch.float64}
    grid = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    means = torch.tensor([[8.0 * (i if c % 2 == 0 else j) for c in range(d)] for i, j in grid], dtype=torch.float64)
    weights = (torch.randn(25, 3, **options) ** 2).sum(1)
    prior = GaussianMixture(SDE, weights, means / SCALE, torch.full((25,), 1 / SCALE**2))
    if mask:
        operator, matrix = Mask(torch.arange(d) < m), torch.eye(d, dtype=torch.float64)[:m]
    else:
        u, _, vt = torch.linalg.svd(torch.randn(m, d, **options), full_matrices=False)
        values = torch.rand(m, **options).sort(descending=True).values.clamp_min(0.05)
        matrix = u @ torch.diag(values) @ vt
        operator = Dense(matrix)
    k = torch.multinomial(weights / weights.sum(), 1, replacement=True, generator=g)
    x = (means[k] + torch.randn(1, d, **options)) / SCALE
    sigma /= SCALE
    y = x @ matrix.mT + sigma * torch.randn(1, m, **options)
    return Problem(prior, operator, y, sigma, prior.posterior(matrix, y[0], sigma), 1 / SCALE)


@functools.cache
def digits_prior() -> tuple[GaussianMixture, Tensor]:
    """20 full-covariance components fitted to 8x8 digits scaled to [-1, 1], and digits that it was not fitted to."""
    from sklearn.datasets import load_digits
    from sklearn.mixture import GaussianMixture as Fitted

    x = torch.as_tensor(load_digits().data) / 8 - 1
    fitted = Fitted(20, reg_covar=1e-3, random_state=0).fit(x[:1500].numpy())
    means, covariances, weights = (torch.as_tensor(v) for v in (fitted.means_, fitted.covariances_, fitted.weights_))
    return GaussianMixture(SDE, weights, means.reshape(-1, 1, 8, 8), covariances), x[1500:].reshape(-1, 1, 8, 8)


def digit(make: Callable[[], Linear], sigma: float, seed: int) -> Problem:
    """A real digit, which the prior has not seen, measured."""
    prior, held_out = digits_prior()
    operator, x = make(), held_out[seed % len(held_out)][None]
    clean = operator.A(x)
    y = clean + sigma * Noise.per_sample([seed]).normal(clean)
    matrix = matrix_of(operator, (1, 8, 8))
    return Problem(prior, operator, y, sigma, prior.posterior(matrix, y.flatten(), sigma), 1.0)


def hole() -> Tensor:
    """All pixels but a block of 4 x 5 in the middle."""
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:7] = False
    return mask


MIXTURES: dict[str, Callable[[int], Problem]] = {
    "mask d2 m1 s.5": functools.partial(mixture, 2, 1, True, 0.5),
    "mask d8 m2 s.1": functools.partial(mixture, 8, 2, True, 0.1),
    "mask d8 m4 s1": functools.partial(mixture, 8, 4, True, 1.0),
    "dense d8 m1 s.5": functools.partial(mixture, 8, 1, False, 0.5),
    "dense d8 m4 s.5": functools.partial(mixture, 8, 4, False, 0.5),
}
DIGITS: dict[str, Callable[[int], Problem]] = {
    "inpainting": functools.partial(digit, lambda: Mask(hole()), 0.1),
    "4x super-resolution": functools.partial(digit, lambda: SuperResolution(4), 0.05),
    "compressed sensing": functools.partial(digit, lambda: gaussian_sensing((1, 8, 8), 16, seed=0), 0.1),
}
