"""Samplers of posteriors against closed forms, and the parts that they are made of.

Statistical tests allow 5 standard errors of each number, false alarms below 1e-6.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import VE, VP, Noise, gaussian, grids, sample
from scorefield.guidance import DDNM, Label, Measurement, MomentMatching, PiGDM, RePaint, Replacement
from scorefield.operators import Dense, Gaussian, Mask, Noiseless, Poisson
from scorefield.posterior import DAPS, FKSteering, REDdiff, SplitGibbs, TwistedSMC
from scorefield.posterior.data_step import data_step
from scorefield.posterior.levels import knots_between
from scorefield.posterior.particles import systematic
from scorefield.solvers import ExponentialAdams

SDE = VP()
FIRST = Mask(torch.tensor([True, False]))
Y, SIGMA = torch.tensor([[0.7]], dtype=torch.float64), 0.3
PRIOR = gaussian(SDE, torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
STEP = ExponentialAdams(2, corrector=False, eta=1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def misfits(x: Tensor, mean: Tensor, covariance: Tensor) -> list[float]:
    """Of the mean in standard deviations, of variances relative, of covariances in units of their scale."""
    scale = covariance.diagonal().sqrt()
    means = (x.mean(0) - mean) / scale
    rest = (torch.cov(x.mT) - covariance) / (scale[:, None] * scale)
    return [float(means.abs().max()), float(rest.abs().max())]


def exact() -> tuple[Tensor, Tensor]:
    posterior = PRIOR.posterior(torch.tensor([[1.0, 0.0]]), Y[0], SIGMA)
    return posterior.means[0], posterior.covariances()[0]


class Opaque:
    """An operator that does not say that it is linear."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def A(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT


@pytest.mark.parametrize("linear", [True, False], ids=["Matheron", "Langevin"])
def test_the_data_step_draws_from_the_product(linear):
    """N(z; x, spread^2) N(y; A z, S), by Matheron's rule and by the Metropolis-adjusted Langevin algorithm."""
    matrix, y, n, spread = normal(2, 3, seed=1), normal(1, 2, seed=2), 4000, 0.7
    middle = normal(1, 3, seed=3)
    operator = Dense(matrix) if linear else Opaque(matrix)
    measurement = Measurement(operator, y, Gaussian(SIGMA))
    noise = Noise.per_sample(range(n))
    z = data_step(measurement, middle.expand(n, 3), spread, noise=noise, steps=300)
    precision = torch.eye(3).double() / spread**2 + matrix.mT @ matrix / SIGMA**2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ (middle[0] / spread**2 + matrix.mT @ y[0] / SIGMA**2)
    means, rest = misfits(z, mean, covariance)
    assert means < 5 / math.sqrt(n)
    assert rest < 5 * math.sqrt(2 / n)


def test_the_data_step_of_counts_has_their_law():
    """N(z; x, spread^2) times Poisson's likelihood, whose moments a sum over z has; 5 standard errors."""
    x, spread, noise, y, n = 0.3, 1.0, Poisson(0.5, background=3.0), torch.tensor([[-2.5]]).double(), 10000
    z = torch.linspace(-3, 6, 4000, dtype=torch.float64)[:, None]
    measurement = Measurement(Dense(torch.eye(1, dtype=torch.float64)), y, noise)
    weights = (measurement.log_likelihood(z) - 0.5 * (z[:, 0] - x) ** 2 / spread**2).softmax(0)
    mean = float((weights * z[:, 0]).sum())
    std = float((weights * (z[:, 0] - mean) ** 2).sum().sqrt())
    middle = torch.full((n, 1), x, dtype=torch.float64)
    drawn = data_step(measurement, middle, spread, noise=Noise.per_sample(range(n)), steps=60)
    assert abs(float(drawn.mean()) - mean) < 5 * std / math.sqrt(n)
    assert abs(float(drawn.std()) / std - 1) < 5 / math.sqrt(n)


def test_the_data_step_without_noise_agrees_with_the_measurement():
    matrix, y = normal(2, 3, seed=1), normal(1, 2, seed=2)
    noise = Noise.per_sample(range(8))
    z = data_step(Measurement(Dense(matrix), y, Noiseless()), normal(8, 3), 0.5, noise=noise, steps=1)
    torch.testing.assert_close(z @ matrix.mT, y.expand(8, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_systematic_resampling_takes_each_within_one_of_its_share():
    log_weights = 2 * normal(50)
    for seed in range(20):
        rows = systematic(log_weights, 200, Noise.per_sample([seed]))
        counts = torch.bincount(rows, minlength=50)
        assert float((counts - 200 * log_weights.softmax(0)).abs().max()) < 1
    rows = torch.stack([systematic(log_weights, 7, Noise.per_sample([seed])) for seed in range(500)])
    shares = torch.bincount(rows.flatten(), minlength=50) / rows.numel()
    error = 5 * (log_weights.softmax(0) / rows.numel()).sqrt() + 1e-4
    assert bool(((shares - log_weights.softmax(0)).abs() < error).all())  # without bias


@pytest.mark.usefixtures("unchecked")
def test_particles_of_a_reward_that_is_a_likelihood():
    """One cloud has the error of a chain of random choices: 5 clouds, and the spread between them as the error bar."""
    clouds = torch.stack(
        [
            FKSteering(PRIOR, lambda x: -0.5 * (x[:, 0] - 0.7) ** 2 / SIGMA**2, count=4000, steps=60)
            .sample((2,), seeds=[1000 + k, *range(3999)])
            .mean(0)
            for k in range(8)
        ]
    )
    error = 6 * clouds.std(0) / math.sqrt(8)  # Student's t with 7 degrees: below 1e-3, and the seeds are fixed
    mean, _ = exact()
    assert bool(((clouds.mean(0) - mean).abs() < error).all())
    assert float(error.max()) < 0.15


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [SplitGibbs, DAPS, REDdiff])
def test_a_sample_does_not_depend_on_its_batch_mates(method):
    y = normal(5, 1, seed=9)
    few = {SplitGibbs: {"rounds": 4}, DAPS: {"levels": 5}, REDdiff: {"steps": 9}}[method]
    whole = method(PRIOR, FIRST, y, Gaussian(SIGMA), **few).sample((2,), seeds=range(5))
    split = method(PRIOR, FIRST, y, Gaussian(SIGMA), **few).sample((2,), seeds=range(5), batch_size=2)
    torch.testing.assert_close(whole, split, rtol=1e-8, atol=1e-8)
    one = method(PRIOR, FIRST, y[3:4], Gaussian(SIGMA), **few).sample((2,), seeds=[3])
    torch.testing.assert_close(whole[3:4], one, rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("unchecked")
def test_split_gibbs_of_a_constant_rho_is_the_posterior_of_more_noise():
    """x of p(x) N(z; x, rho^2 I) p(y | z) has the law of p(x) N(y; A x, S + rho^2 A A^T)."""
    rho, n = 0.8, 4000
    method = SplitGibbs(PRIOR, FIRST, Y, Gaussian(SIGMA), rounds=15, steps=12, rho=(rho, rho))
    wanted = PRIOR.posterior(torch.tensor([[1.0, 0.0]]), Y[0], math.hypot(SIGMA, rho))
    means, rest = misfits(method.sample((2,), seeds=range(n)), wanted.means[0], wanted.covariances()[0])
    assert means < 0.05 + 5 / math.sqrt(n)
    assert rest < 0.05 + 5 * math.sqrt(2 / n)


@pytest.mark.usefixtures("unchecked")
def test_red_diff_goes_to_the_measurement_and_the_priors_mean_given_it():
    """x_1 = y and E[x_2 | x_1 = y] = 0.8 y, but for the noise of its gradients."""
    x = REDdiff(PRIOR, FIRST, Y, Gaussian(SIGMA)).sample((2,), seeds=range(100))
    assert float((x[:, 0] - 0.7).abs().max()) < 0.01
    assert abs(float(x[:, 1].mean()) - 0.56) < 0.15
    assert float(x[:, 1].std()) < 0.3
    assert REDdiff.label is Label.OPTIMISER


@pytest.mark.usefixtures("unchecked")
def test_daps_follows_its_recursion():
    """For a prior N(0, 1) of VP one step of DDIM leads from x_t to alpha x_t: a chain of normal laws."""
    n, levels, sigma = 6000, 2, 1.0
    prior = gaussian(SDE, torch.zeros(1), torch.ones(()))
    method = DAPS(prior, Mask(torch.tensor([True])), 3 * Y, Gaussian(sigma), levels=levels, steps=1, end=0.6)
    mean, variance = 0.0, 1.0  # of x_t
    for k, knot in enumerate(knots_between(SDE, math.inf, 0.6, levels)):
        if k:
            mean, variance = knot.alpha * mean, knot.alpha**2 * variance + knot.sigma**2
        s2 = (knot.sigma / knot.alpha) ** 2
        share = s2 / (s2 + sigma**2)
        mean, variance = (1 - share) * knot.alpha * mean + share * 2.1, ((1 - share) * knot.alpha) ** 2 * variance
        variance += share * sigma**2
    x = method.sample((1,), seeds=range(n))
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [SplitGibbs, DAPS])
def test_split_samplers_take_operators_that_are_not_linear(method):
    """|x_1| measured: both signs are found, and both are right."""

    class Modulus:
        def A(self, x: Tensor) -> Tensor:
            return x[:, :1].abs()

    few = {SplitGibbs: {"rounds": 15, "steps": 6, "rho": (10.0, 0.1)}, DAPS: {"levels": 15, "steps": 3}}[method]
    x = method(PRIOR, Modulus(), 2 * Y, Gaussian(SIGMA), langevin_steps=25, **few).sample((2,), seeds=range(400))
    assert 0.3 < float((x[:, 0] > 0).double().mean()) < 0.7
    assert abs(float(x[:, 0].abs().mean()) - 1.28) < 0.15
    assert float((x[:, 0] * x[:, 1]).mean()) > 0.5


def test_a_reward_of_minus_infinity_kills_its_particle_alone():
    def right(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, 0.0, -math.inf)

    x = FKSteering(PRIOR, right, count=400, steps=40).sample((2,), seeds=range(200))
    assert bool((x[:, 0] > 0).all())
    assert len(x.unique(dim=0)) > 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rewards_that_leave_nothing(value):
    with pytest.raises(ValueError, match=r"not finite|no particle is left"):
        FKSteering(PRIOR, lambda x: 0 * x[:, 0] + value, count=10, steps=3).sample((2,), seeds=[0])


def test_a_process_that_ends_above_rho():
    prior = gaussian(VE(0.05, 50.0), torch.zeros(2), torch.eye(2))
    for method in (
        SplitGibbs(prior, FIRST, Y, Gaussian(SIGMA), rounds=5),
        DAPS(prior, FIRST, Y, Gaussian(SIGMA), levels=4),
    ):
        x = method.sample((2,), seeds=range(200))
        assert 0.3 < float(x[:, 0].mean()) < 0.8


BAD = [
    (lambda: SplitGibbs(PRIOR, FIRST, Y, Gaussian(1.0), rounds=0), "rounds >= 2"),
    (lambda: SplitGibbs(PRIOR, FIRST, Y, Gaussian(1.0), rho=(0.1, 1.0)), "rho must fall"),
    (lambda: DAPS(PRIOR, FIRST, Y, Gaussian(1.0), levels=1), "levels >= 2"),
    (lambda: REDdiff(PRIOR, FIRST, Y, Gaussian(1.0), rate=0.0), "rate > 0"),
    (lambda: TwistedSMC(PRIOR, FIRST, Y, Gaussian(1.0), threshold=2.0), "threshold in"),
    (lambda: TwistedSMC(PRIOR, FIRST, Y.repeat(2, 1), Gaussian(1.0)), "a cloud for each"),
    (lambda: FKSteering(PRIOR, lambda x: x, count=3, steps=3).sample((2,), seeds=[0]), "one number for each of 3"),
    (lambda: TwistedSMC(PRIOR, FIRST, Y, Noiseless()), "has no likelihood"),
    (lambda: DAPS(PRIOR, FIRST, Y, Gaussian(1.0)).sample((2,), seeds=[]), "at least one seed"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The test of ../docs/guidance.md: a normal prior N(0, [[1, .8], [.8, 1]]) and y = x_1 + N(0, .3^2) = .7.
N = 40_000


def draw(model, solver=STEP, steps: int = 60) -> Tensor:
    return sample(model, (2,), grids.uniform_log_snr(SDE, steps), solver, seeds=range(N))


RIGHT = {
    "MomentMatching": lambda: draw(MomentMatching(PRIOR, FIRST, Y, Gaussian(SIGMA))),
    "TwistedSMC, PiGDM": lambda: TwistedSMC(PRIOR, FIRST, Y, Gaussian(SIGMA), PiGDM).sample((2,), seeds=range(N)),
    "TwistedSMC, MomentMatching": lambda: TwistedSMC(PRIOR, FIRST, Y, Gaussian(SIGMA), MomentMatching).sample(
        (2,), seeds=range(N)
    ),
    "SplitGibbs": lambda: SplitGibbs(PRIOR, FIRST, Y, Gaussian(SIGMA), rounds=200).sample((2,), seeds=range(N)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", RIGHT)
def test_mean_and_covariance_of_a_normal_posterior(name):
    """Within 5 %: of a standard deviation, and of each variance, 7 standard errors of it."""
    assert max(misfits(RIGHT[name](), *exact())) < 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_pigdm_on_the_isotropic_prior_and_on_the_other():
    isotropic = gaussian(SDE, torch.zeros(2), torch.tensor(1.0))
    posterior = isotropic.posterior(torch.tensor([[1.0, 0.0]]), Y[0], SIGMA)
    x = draw(PiGDM(isotropic, FIRST, Y, Gaussian(SIGMA)))
    assert max(misfits(x, posterior.means[0], posterior.covariances()[0])) < 0.05
    assert max(misfits(draw(PiGDM(PRIOR, FIRST, Y, Gaussian(SIGMA))), *exact())) > 0.05


WRONG = {
    "DDNM": lambda: draw(DDNM(PRIOR, FIRST, Y, Gaussian(SIGMA))),
    "Replacement": lambda: draw(PRIOR, Replacement(FIRST, Y, Gaussian(SIGMA))),
    "RePaint": lambda: draw(PRIOR, RePaint(FIRST, Y, Gaussian(SIGMA)), 20),
    "REDdiff": lambda: REDdiff(PRIOR, FIRST, Y, Gaussian(SIGMA), steps=200).sample((2,), seeds=range(N)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", WRONG)
def test_what_takes_the_measurement_for_exact_is_found_out(name):
    x = WRONG[name]()
    assert float(x[:, 0].var()) < 0.002  # of .083
    assert max(misfits(x, *exact())) > 0.5
