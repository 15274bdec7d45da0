"""Clouds of guided particles: the densities of their steps, and operators that are not linear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from test_particles import SDE, Modes, column, passes, standard
from torch import Tensor

from scorefield import EDM, VE, VP, Noise
from scorefield.grids import uniform_log_snr
from scorefield.guidance import DPS, MomentMatching, PiGDM, Replacement
from scorefield.guidance.twist import Twisted
from scorefield.operators import Dense, Gaussian, Mask, Quantise
from scorefield.posterior import FKSteering, TwistedSMC
from scorefield.posterior.kernel import noise_of_step
from scorefield.posterior.particles import ParticleSampler, particles
from scorefield.sampling import integrate
from scorefield.solvers import (
    DDIM,
    SRA1,
    Ancestral,
    EulerMaruyama,
    ExponentialAdams,
    Heun,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    SASolver,
    Solver,
    Step,
    StochasticHeun,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")


THREE = Modes([[-1, 0.5], [1, -0.3], [0.3, 1]], [0.2, 0.2, 0.3], [0.3, 0.5, 0.2], [[1, 0]], [0], 1)


class Square:
    """x^2 of the first number, which no matrix measures."""

    def A(self, x: Tensor) -> Tensor:
        return x[:, :1] ** 2


GUIDED = {
    "PiGDM": (PiGDM, ExponentialAdams(1, corrector=False, eta=1.0)),
    "MomentMatching": (MomentMatching, ExponentialAdams(2, corrector=False, eta=0.6)),
    "corrected": (PiGDM, ExponentialAdams(3, corrector=True, eta=1.0)),
    "DPS": (DPS, Ancestral()),
    "reverse SDE": (DPS, EulerMaruyama(0.5)),
    "discretised": (PiGDM, ReverseDiffusion()),
}


@pytest.mark.parametrize("name", GUIDED)
def test_the_weights_of_guided_steps_have_the_mean_of_the_prior_s_own(name):
    """E w = E p(y | x_0) under the law of the solver's own steps, whatever guides: within 5 standard errors.

    Without p / q, or with that of another solver, the mean is off by 20 to 5000 of them.
    """
    twist, solver = GUIDED[name]
    prior, n = THREE.prior(), 4000
    operator = Square() if twist is DPS else Dense(column([[0.3, 1.0]]))
    method = TwistedSMC(prior, operator, column([[0.7]]), Gaussian(0.4), twist, n, 40, 0.0, solver)
    steering = FKSteering(prior, method.twist.log_target, n, 40, 0.0, solver)
    means, errors = [], []
    for k, each in enumerate((method, steering)):
        _, log_weights = particles(
            prior,
            each.twist,
            torch.empty(n, 2, dtype=torch.float64),
            SDE.knots(method.times),
            0.0,
            solver,
            noise=Noise.per_batch(k, n),
        )
        means.append(float(log_weights.exp().mean()))
        errors.append(float(log_weights.exp().std()) / math.sqrt(n))
    assert abs(means[0] - means[1]) < 5 * math.hypot(*errors)
    assert errors[0] < 0.1 * means[0]


@pytest.mark.parametrize("name", GUIDED)
def test_guided_particles_take_the_solvers_steps(name):
    """With the guided denoiser, to rounding, up to the last step: that onto the data is the prior's."""
    twist, solver = GUIDED[name]
    prior, ours, wanted = THREE.prior(), [], []
    method = TwistedSMC(prior, Dense(column([[0.3, 1.0]])), column([[0.7]]), Gaussian(0.4), twist, 9, 12, 0.0, solver)
    guided = twist(prior, Dense(column([[0.3, 1.0]])), column([[0.7]]), Gaussian(0.4))
    noise, like = Noise.per_batch(5, 9), torch.empty(9, 2, dtype=torch.float64)
    knots = SDE.knots(method.times)
    particles(
        prior, method.twist, like, knots, 0.0, solver, noise=noise, callback=lambda k, knot, step: ours.append(step.x)
    )
    integrate(
        guided,
        SDE.prior.sample(like, noise),
        method.times,
        solver,
        noise=noise,
        callback=lambda k, knot, step: wanted.append(step.x),
    )
    assert len(ours) == len(wanted) == 12
    for one, other in zip(ours[:-1], wanted[:-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


class Unmoved:
    """A twist that guides by the prior itself."""

    def __init__(self, prior):
        self.prior = prior

    def twisted(self, x, t):
        denoised = self.prior(x, t)
        return Twisted(denoised, denoised.clone(), denoised[:, 0].sin())

    def log_target(self, x0):
        return 3 * x0[:, 0].sin()


@pytest.mark.parametrize("name", GUIDED)
def test_steps_that_guide_nowhere_have_the_weights_of_the_prior_s(name):
    """p = q, memory and all."""
    prior, (_, solver) = THREE.prior(), GUIDED[name]
    like, knots = torch.empty(30, 2, dtype=torch.float64), SDE.knots(uniform_log_snr(SDE, 15))
    x, log_weights = particles(prior, Unmoved(prior), like, knots, 0.0, solver, noise=Noise.per_batch(2, 30))
    torch.testing.assert_close(log_weights, 3 * x[:, 0].sin(), rtol=1e-9, atol=1e-9)


def known_std(solver: Solver, sde, now, next) -> float:
    s, r = now.sigma / now.alpha, next.sigma / next.alpha
    if isinstance(solver, EulerMaruyama | ReverseDiffusion):
        return now.g * math.sqrt(getattr(solver, "eta", 1.0) * abs(next.t - now.t))
    v = solver.sigma_data**2
    return next.alpha * math.sqrt((r**2 + v) * (1 - ((r**2 + v) / (s**2 + v)) ** solver.eta))


@pytest.mark.parametrize("sde", [VP(), VE(0.01, 50.0), EDM()], ids=["VP", "VE", "EDM"])
@pytest.mark.parametrize(
    "solver",
    [
        ExponentialAdams(1, corrector=False, eta=1.0),
        ExponentialAdams(3, corrector=True, eta=0.3),
        Ancestral(),
        EulerMaruyama(),
        EulerMaruyama(0.2),
    ],
    ids=str,
)
def test_the_noise_of_a_step_is_found(solver, sde):
    for now, next in ((0.9, 0.7), (0.5, 0.49), (0.02, 0.01)):
        now, next = sde.knots([now * sde.T, next * sde.T])
        assert noise_of_step(solver, sde, now, next) == pytest.approx(known_std(solver, sde, now, next), rel=1e-9)


@dataclass(frozen=True)
class Multiplied(EulerMaruyama):
    """Noise that grows with the state."""

    def step(self, model, x, now, next, state, *, noise):
        return Step(x + (1 + x) * noise.normal(x))


@dataclass(frozen=True)
class Twice(EulerMaruyama):
    """Noise of two draws, normal or uniform in part."""

    uniform: bool = False

    def step(self, model, x, now, next, state, *, noise):
        draw = noise.uniform if self.uniform else noise.normal
        return Step(x + draw(x) + noise.normal(x, draw=1))


REFUSED = [
    (DDIM(), "adds no noise at sigma / alpha = "),
    (UniPC(), "adds no noise"),
    (SASolver(), "adds no noise"),  # beyond sigma / alpha = 1
    (StochasticHeun(), "at more than one point"),
    (Heun(), "at more than one point"),
    (SRA1(), "at more than one point|noise more than once"),
    (PredictorCorrector(Ancestral(), Langevin()), "at more than one point"),
    (Multiplied(), "its noise depends on the state"),
    (Twice(), "noise more than once"),
    (Twice(uniform=True), "its noise is not normal alone"),
]


@pytest.mark.parametrize(("solver", "why"), REFUSED, ids=[str(s) for s, _ in REFUSED])
def test_guided_particles_refuse_steps_without_a_density(solver, why):
    """At once, not at the step; with the reason and a remedy. Steering takes them."""
    with pytest.raises(ValueError, match=rf"p / q of each step.*{why}.*FKSteering") as said:
        TwistedSMC(standard(), Mask(torch.tensor([True])), column([[0.5]]), Gaussian(0.3), solver=solver)
    assert str(solver) in str(said.value)


@pytest.mark.parametrize(
    "solver", [Langevin(), Replacement(Mask(torch.tensor([True])), column([[0.5]]), Gaussian(0.3))]
)
def test_steps_that_are_not_the_priors_are_refused(solver):
    with pytest.raises(TypeError, match="not those of the prior's reverse process"):
        FKSteering(standard(), lambda x: x[:, 0], solver=solver)


def test_a_matrix_is_wanted_by_those_who_use_it():
    with pytest.raises(TypeError, match="TwistedSMC with DPS"):
        TwistedSMC(standard(), Square(), column([[0.5]]), Gaussian(0.3), PiGDM, count=5).sample((1,), seeds=[0])


# Operators that are not linear, against the posterior on a grid.

AXIS = torch.linspace(-3, 3, 601, dtype=torch.float64)
GRID = torch.cartesian_prod(AXIS, AXIS)


class Measured(NamedTuple):
    """A of (b, 2), what it gave and the noise's std."""

    A: Callable[[Tensor], Tensor]
    y: list[float]
    std: float


MEASURED = {
    "modulus": Measured(lambda x: x[:, :1].abs(), [0.9], 0.1),
    "square": Measured(lambda x: x[:, :1] ** 2, [1.0], 0.02),
    "radius": Measured(lambda x: x.square().sum(1, keepdim=True), [1.3], 0.1),
    "product": Measured(lambda x: x[:, :1] * x[:, 1:], [-0.3], 0.1),
    "wave": Measured(lambda x: torch.sin(3 * x[:, :1]) + 0.5 * x[:, 1:], [0.2], 0.2),
    "saturated": Measured(lambda x: x.clamp(-0.5, 0.5), [0.5, 0.2], 0.1),
    "rounded, gradient of its input": Measured(Quantise(0.5).A, [1.0, -0.5], 0.15),
    "rounded": Measured(lambda x: torch.round(2 * x) / 2, [1.0, -0.5], 0.15),
    "sign": Measured(lambda x: (x[:, :1] > 0.2).to(x), [1.0], 0.3),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "square" else pytest.mark.slow) for name in MEASURED]
)
@pytest.mark.parametrize("guided", [True, False])
def test_operators_that_are_not_linear(name, guided):
    """The chance of x_1 > 0, and the means of x and x_1 x_2, of 500 particles by defaults, 4 times."""
    known, runs = MEASURED[name], 4
    prior, y = THREE.prior(), column([known.y])

    def features(x: Tensor) -> Tensor:
        return torch.stack(((x[:, 0] > 0).double(), x[:, 0], x[:, 1], x[:, 0] * x[:, 1]), 1)

    def log_likelihood(x: Tensor) -> Tensor:
        return -0.5 * ((y - known.A(x)) / known.std).square().sum(1)

    weights = (prior.marginal(0.0).log_prob(GRID) + log_likelihood(GRID)).softmax(0)[:, None]
    mean = (weights * features(GRID)).sum(0)
    one = (weights * (features(GRID) - mean).square()).sum(0).sqrt()
    if guided and name == "sign":
        with pytest.raises(ValueError, match=r"no gradient.*take FKSteering"):
            TwistedSMC(prior, known, y, Gaussian(known.std)).sample((2,), seeds=[0])
        return
    if guided:
        method: ParticleSampler = TwistedSMC(prior, known, y, Gaussian(known.std))
    else:
        method = FKSteering(prior, log_likelihood)
    errors = [features(method.sample((2,), seeds=range(500 * k, 500 * (k + 1)))).mean(0) - mean for k in range(runs)]
    assert passes(torch.stack(errors), one.clamp_min(1e-3), 20)
