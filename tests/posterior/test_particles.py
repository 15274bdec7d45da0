"""Clouds of particles against closed forms, quadrature and identities.

A statistical test squares how far the means of R independent clouds are from the exact one, in units of what as many as
K independent samples would err by. With errors that are normal and no larger than that the sum is at most chi^2 of R
degrees, and its limit is passed by chance with a probability of 1e-6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from scorefield import VP, GaussianMixture, Noise, gaussian
from scorefield.guidance.twist import foreseen
from scorefield.posterior import FKSteering
from scorefield.posterior.particles import particles
from scorefield.solvers import (
    DDIM,
    Ancestral,
    Churn,
    EulerMaruyama,
    ExponentialAdams,
    Heun,
    Langevin,
    PredictorCorrector,
    Solver,
    Step,
    StochasticHeun,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")
SDE = VP()


def column(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def passes(errors: Tensor, one: Tensor, independent: float) -> bool:
    """Whether means (runs, k) err as little as those of `independent` samples of standard deviations `one` (k,)."""
    square = (errors / one).square().sum(0) * independent
    return bool((square < chi2.isf(1e-6 / errors.shape[1], len(errors))).all())


class Modes(NamedTuple):
    """A mixture of modes that lie far apart, and a measurement A x of size y with noise of `std`."""

    means: list[list[float]]
    stds: list[float]
    weights: list[float]
    matrix: list[list[float]]
    y: list[float]
    std: float

    @property
    def shape(self) -> tuple[int]:
        return (len(self.means[0]),)

    def prior(self, sde=SDE) -> GaussianMixture:
        return GaussianMixture(sde, torch.tensor(self.weights), column(self.means), column([self.stds])[0] ** 2)

    def posterior(self) -> Tensor:
        """The weights of the modes."""
        matrix, y = column(self.matrix), column([self.y])[0]
        return self.prior().posterior(matrix, y, self.std).weights

    def shares(self, x: Tensor) -> Tensor:
        nearest = (x[:, None] - column(self.means)).square().sum(2).argmin(1)
        return torch.bincount(nearest, minlength=len(self.means)) / len(x)

    def reward(self, x: Tensor) -> Tensor:
        return -0.5 * ((column([self.y]) - x @ column(self.matrix).mT) / self.std).square().sum(1)


MODES = {
    "two": Modes([[-2, 0], [2, 0]], [0.3, 0.3], [0.46, 0.54], [[0, 1]], [0.5], 0.05),
    "rare": Modes([[-1, 0], [1, 0.3]], [0.1, 0.1], [0.9, 0.1], [[0, 1]], [0.2], 0.03),
    "across": Modes([[-1, 1], [1, -1]], [0.3, 0.3], [0.46, 0.54], [[1, 1]], [0.5], 0.05),
    "three": Modes([[-2, 0], [2, 0.2], [0, 1.5]], [0.2, 0.1, 0.3], [0.3, 0.3, 0.4], [[0.2, 1]], [0.3], 0.1),
    "8 numbers": Modes(
        [[0.9, -1.2, 0.4, 0, 1.5, -0.7, 0.2, 1], [-0.3, 0.8, -1.1, 0.6, -0.9, 0.5, 1.2, -0.4]],
        [0.2, 0.3],
        [0.5, 0.5],
        [[0.4, 0.1, -0.3, 0.5, 0.2, 0.1, 0, 0.3], [0, 0.5, 0.2, -0.1, 0.3, 0.6, 0.2, 0]],
        [0.5, 0.0],
        0.1,
    ),
}


def clouds(problem: Modes, runs: int, n: int, **options: Any) -> Tensor:
    """What share each mode has, less what it should have; (runs, modes)."""
    method = FKSteering(problem.prior(), problem.reward, count=n, **options)
    return torch.stack(
        [
            problem.shares(method.sample(problem.shape, seeds=range(n * k, n * (k + 1)))) - problem.posterior()
            for k in range(runs)
        ]
    )


def spread(problem: Modes) -> Tensor:
    return (problem.posterior() * (1 - problem.posterior())).sqrt()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("two", "rare") else pytest.mark.slow) for name in MODES]
)
def test_steering_gives_modes_their_weights(name):
    """500 particles, here worth about 45 independent ones. Without doubt a cloud is soon one of copies, in one mode."""
    assert passes(clouds(MODES[name], 8, 500), spread(MODES[name]), 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_more_particles_err_less(name):
    assert passes(clouds(MODES[name], 4, 20_000, steps=200), spread(MODES[name]), 600)


SOLVERS = {
    "reverse SDE": EulerMaruyama(),
    "two values": ExponentialAdams(2, corrector=False, eta=1.0),
    "corrected": ExponentialAdams(3, corrector=True, eta=1.0),
    "ancestral": Ancestral(),
    "ODE": DDIM(),
    "multistep ODE": UniPC(),
    "two calls": Heun(),
    "two calls and noise": StochasticHeun(),
    "correction": PredictorCorrector(DDIM(), Langevin(0.1), corrections=1),
    "churn": Churn(Heun(), 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_steering_takes_any_solver(name):
    problem = MODES["two"]
    assert passes(clouds(problem, 6, 500, steps=150, solver=SOLVERS[name]), spread(problem), 15)


@dataclass(frozen=True)
class Remembering(Solver):
    """DDIM with a state: where each particle has gone and where it began, and what is not of particles."""

    @property
    def convergence_order(self) -> int:
        return 1

    def step(self, model, x, now, next, state, *, noise):
        step = DDIM().step(model, x, now, next, None, noise=noise)
        assert torch.equal(model(x, next.time), MODES["two"].prior()(x, next.time))  # at the same x another time
        if state is not None:
            (seen,), first, other, count = state
            assert torch.equal(seen, x)
            assert len(other) == 3
            assert len(first.unique(dim=0)) == len(x.unique(dim=0))
        else:
            first, count = x, 0
        return Step(step.x, ((step.x,), first, torch.zeros(3), count + 1))


def test_a_solvers_memory_is_resampled_with_its_particles():
    problem, sizes = MODES["two"], []
    FKSteering(problem.prior(), problem.reward, solver=Remembering()).sample(
        (2,), seeds=range(9), callback=lambda k, knot, step: sizes.append(step.info["effective"])
    )
    assert min(sizes) < 250  # so that there was resampling

    class Other(Remembering):
        def step(self, model, x, now, next, state, *, noise):
            return Step(DDIM().step(model, x, now, next, None, noise=noise).x, {"x": x})

    with pytest.raises(TypeError, match="remembers a dict"):
        FKSteering(problem.prior(), problem.reward, count=50, solver=Other()).sample((2,), seeds=range(9))


def test_weights_without_resampling_are_those_of_the_reward():
    """The potentials cancel, whatever they are."""
    problem, prior = MODES["three"], MODES["three"].prior()
    method, like = FKSteering(prior, problem.reward), torch.empty(40, 2, dtype=torch.float64)
    x, log_weights = particles(
        prior, method.twist, like, SDE.knots(method.times), 0.0, DDIM(), noise=Noise.per_batch(3, 40)
    )
    torch.testing.assert_close(log_weights, problem.reward(x), rtol=1e-9, atol=1e-9)


def standard(sde=SDE) -> GaussianMixture:
    return gaussian(sde, torch.zeros(1), torch.ones(()))


@pytest.mark.parametrize(("a", "n"), [(0.0, 100), (0.5, 20_000), (1.0, 50_000)])
def test_the_effective_size_is_reported(a, n):
    """(E w)^2 / E w^2 = exp(-a^2) for weights exp(a x) of normal x; without resampling each has itself as ancestor."""
    found: list[dict[str, float]] = []
    FKSteering(standard(), lambda x: a * x[:, 0], count=n, steps=3, threshold=0.0).sample(
        (1,), seeds=[0], callback=lambda k, knot, step: found.append(step.info)
    )
    assert len(found) == 3
    share = found[-1]["effective"] / n
    # by the delta method: Var(2 w / E w - w^2 / E w^2) of weights whose k-th moments are exp(k^2 a^2 / 2)
    e = math.exp(a**2)
    error = math.sqrt(max(0.0, 4 * (e - 1) + e**4 - 1 - 4 * (e**2 - 1)) / n)
    assert abs(share / math.exp(-(a**2)) - 1) < 5 * error + 1e-9
    assert found[-1]["ancestors"] == pytest.approx(found[-1]["effective"])


def test_ancestors_are_counted_through_all_resampling():
    """Particles that keep what they began with, in the second number, tell whose copies they are."""
    problem, found = MODES["two"], {}
    method = FKSteering(problem.prior(), problem.reward, count=200, solver=DDIM())
    like = torch.empty(200, 2, dtype=torch.float64)
    x, log_weights = particles(
        method.denoiser,
        method.twist,
        like,
        SDE.knots(method.times),
        0.5,
        DDIM(),
        noise=Noise.per_batch(1, 200),
        callback=lambda k, knot, step: found.update(step.info),
    )
    _, family = x.unique(dim=0, return_inverse=True)  # without noise copies stay copies
    shares = torch.zeros(200, dtype=torch.float64).index_add_(0, family, log_weights.softmax(0))
    assert found["ancestors"] == pytest.approx(float(1 / shares.square().sum()))
    assert found["ancestors"] < 0.5 * found["effective"]


@pytest.mark.parametrize("far", [0.5, 1.0, 1.5])
def test_a_mean_that_the_target_refuses_may_come_to_a_good_end(far):
    """A normal law less |x| < far: E|x| and each side's half, though D is within until the noise is small."""
    method = FKSteering(standard(), lambda x: torch.where(x[:, 0].abs() > far, 0.0, -math.inf))
    errors = []
    for k in range(4):
        x = method.sample((1,), seeds=range(500 * k, 500 * (k + 1)))[:, 0]
        assert float(x.abs().min()) > far
        errors.append(torch.stack(((x > 0).double().mean() - 0.5, x.abs().mean())))
    tail = 0.5 * math.erfc(far / math.sqrt(2))
    mean = math.exp(-0.5 * far**2) / math.sqrt(2 * math.pi) / tail
    std = math.sqrt(1 + far * mean - mean**2)
    errors = torch.stack(errors) - torch.tensor([0.0, mean], dtype=torch.float64)
    assert passes(errors, torch.tensor([0.5, std], dtype=torch.float64), 0.5 * 2 * tail * 500)


def test_few_effective_particles_are_said():
    """Without resampling, by weights exp(a x); 9 particles are as many as was asked for."""

    def cloud(a: float, count: int) -> None:
        FKSteering(standard(), lambda x: a * x[:, 0], count, 5, 0.0).sample((1,), seeds=[0])

    for count in (12, 40, 400):
        with pytest.warns(UserWarning, match=f"the {count} particles are worth those of [1-9].[0-9] samples"):
            cloud(5.0, count)
        cloud(0.1, count)  # a warning were an error
    cloud(5.0, 9)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_doubt_is_of_the_size_of_what_noise_hides(scale):
    """For a linear target a x the difference is |a| r, r = s / (1 + s^2)^(1/2), and 0 at the data."""
    x, sde = column([[0.3], [-1.4]]), VP()
    for knot in sde.knots([0.9, 0.4, 0.01]):
        value, doubt = foreseen(lambda z: scale * z[:, 0], sde, x, knot.time, standard(sde)(x, knot.time))
        torch.testing.assert_close(doubt, torch.full((2,), scale * knot.sigma, dtype=torch.float64), rtol=1e-7, atol=0)
        torch.testing.assert_close(value, scale * knot.alpha * x[:, 0])
