"""Moment matching by a denoiser that errs: its Jacobian is no covariance, and no noise hides what follows from that.

A normal law of small colour pictures, whose posterior is known, with variances from 28 to 1e-4, and a smooth error of a
tenth to a third of the noise level in its denoiser: Jacobians that are neither symmetric nor positive.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefield import EDM, VE, VP, Denoiser, GaussianMixture, GaussianSDE, Noise, gaussian, grids, sample
from scorefield.guidance import ClassifierFree, MomentMatching
from scorefield.operators import Colorize, Gaussian, LinearOperator, Mask, Noiseless, conjugate_gradients
from scorefield.operators.svd import matrix_of
from scorefield.solvers import Ancestral, ExponentialAdams, Solver

pytestmark = pytest.mark.usefixtures("unchecked")
SHAPE, D, N = (3, 4, 4), 48, 64
ROUNDING = 0.00225  # of 8 bits on [-1, 1]
STEP = ExponentialAdams(2, corrector=False, eta=1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def pictures(sde: GaussianSDE) -> GaussianMixture:
    """Smooth, and nearly grey."""
    place = torch.arange(4).double()
    smooth = torch.exp(-((place[:, None] - place) ** 2) / 8)
    channels = 0.97 + 0.03 * torch.eye(3).double()
    covariance = torch.kron(channels, torch.kron(smooth, smooth)) + 1e-4 * torch.eye(D).double()
    return gaussian(sde, torch.zeros(SHAPE, dtype=torch.float64), covariance)


class Erring(Denoiser):
    """D + error r sin(2 W u) / 2 for u = x_t / alpha over (1 + s^2)^(1/2), r = s / (1 + s^2)^(1/2), any matrix W."""

    def __init__(self, exact: Denoiser, error: float) -> None:
        super().__init__(exact.sde)
        self.exact, self.error = exact, error
        self.register_buffer("turn", normal(D, D, seed=7) / D**0.5)

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        alpha, sigma = self._scales(x, t)
        u = x / (alpha**2 + sigma**2).sqrt()
        wave = (2 * u.flatten(1) @ self.turn.mT).sin().reshape(x.shape) / 2
        return self.exact(x, t) + self.error * sigma / (alpha**2 + sigma**2).sqrt() * wave


class Difference(LinearOperator):
    """Red less green of some pixels of the second row, which are nearly the same number."""

    gram = 2.0

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def A(self, x: Tensor) -> Tensor:
        return x[:, 0, 1, : self.count] - x[:, 1, 1, : self.count]

    def A_adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *SHAPE)
        x[:, 0, 1, : self.count], x[:, 1, 1, : self.count] = y, -y
        return x


OPERATORS = {
    "grey": Colorize([1 / 3] * 3),
    "every third": Mask((torch.arange(D) % 3 == 0).reshape(SHAPE)),
    "one difference": Difference(1),
    "two differences": Difference(2),
}


def draw(
    model: Denoiser, exact: GaussianMixture, name: str, std: float, iterations: int, solver: Solver = STEP
) -> tuple[float, float, float]:
    """The samples' spread and the farthest of them in units of the posterior's spread, and the residual's size."""
    operator = OPERATORS[name]
    clean = operator.A(exact.marginal(0.0).sample(torch.empty(1, *SHAPE).double(), Noise.per_sample([5])))
    y = clean + std * normal(*clean.shape, seed=9)
    posterior = exact.posterior(matrix_of(operator, SHAPE), y.flatten(), std or 1e-5)
    spread = float(posterior.variances[0].mean().sqrt())
    guided = MomentMatching(model, operator, y, Gaussian(std) if std else Noiseless(), iterations)
    sde, least = exact.sde, torch.tensor(max(0.1 * std, 0.002), dtype=torch.float64)
    times = grids.uniform_log_snr(sde, 40, float(sde.time(-2 * least.log())))
    x = sample(guided, SHAPE, times, solver, seeds=range(N))
    away = (x - posterior.means[0].reshape(SHAPE)).flatten(1).square().mean(1).sqrt()
    return (
        float(x.var(0).mean().sqrt()) / spread,
        float(away.max()) / spread,
        float((operator.A(x) - y).square().mean().sqrt()),
    )


FAST = {("grey", 6, 0.0), ("every third", 3, ROUNDING), ("every third", 6, 0.0), ("one difference", 1, ROUNDING)}
CASES = [
    pytest.param(name, k, std, marks=() if (name, k, std) in FAST else pytest.mark.slow)
    for name in OPERATORS
    for k in (1, 3, 6, 12)
    for std in (0.0, ROUNDING)
]


@pytest.mark.parametrize(("name", "iterations", "std"), CASES)
def test_samples_keep_to_the_posterior(name, iterations, std):
    """Their spread within 15 % of the exact one, of which sampling errors are 3 %, and none is far out.

    Without the checks 26 of the 32 go wrong, up to a spread of 1e43, and in most the residual is fine. Mutants: no
    `reach`, which the differences find, and no check of symmetry.
    """
    exact = pictures(VP())
    spread, farthest, residual = draw(Erring(exact, 0.3), exact, name, std, iterations)
    assert 0.85 < spread < 1.15
    assert farthest < 4
    assert residual < (1.3 * std if std else 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("sde", [VE(0.001, 50.0), EDM()], ids=["VE", "EDM"])
@pytest.mark.parametrize("name", ["every third", "one difference"])
def test_with_every_process(sde, name):
    exact = pictures(sde)
    spread, farthest, _ = draw(Erring(exact, 0.3), exact, name, 0.0, 3)
    assert 0.85 < spread < 1.15
    assert farthest < 4


@pytest.mark.slow
def test_a_guided_prior_is_guided_further():
    """Whose Jacobian leaves [0, 1]: weight 3 between this law and a wider one.

    The farthest sample depends on how products are rounded: 2.1 to 6.9 over seeds and processors. Mutant: no `reach`,
    1400 and more.
    """
    exact = pictures(VP())
    wide = gaussian(VP(), torch.zeros(SHAPE).double(), 4 * exact.covariances()[0])
    model = ClassifierFree(Erring(exact, 0.1), wide, 3.0)
    spread, farthest, _ = draw(model, exact, "every third", ROUNDING, 12, Ancestral())
    assert spread < 1.5
    assert farthest < 10


@pytest.mark.parametrize("iterations", [1, 3, 12])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_covariance_is_trusted(name, iterations):
    """What is checked changes nothing where the denoiser is exact, but for rounding where no residual is left."""
    exact, operator = pictures(VP()), OPERATORS[name]
    x, t = 3 * normal(6, *SHAPE, seed=11), torch.tensor(0.4).double()
    y = operator.A(normal(1, *SHAPE, seed=12))
    guided = MomentMatching(exact, operator, y, Gaussian(ROUNDING), iterations)
    denoised, _, covariance = guided._look(x, t, {})

    def gram(v: Tensor) -> tuple[Tensor, Tensor]:
        moved = covariance(operator.A_adjoint(v))
        return operator.A(moved) + ROUNDING**2 * v, moved

    _, moved = conjugate_gradients(gram, y - operator.A(denoised), iterations, least=ROUNDING**2)
    torch.testing.assert_close(guided(x, t), denoised + moved, rtol=1e-12, atol=1e-12)
