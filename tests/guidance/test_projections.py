"""Solvers that know of a measurement: what each step does, against the papers' formulas in matrices."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import VP, Noise, gaussian, grids, sample
from scorefield.guidance import DDRM, DDNMPlus, RePaint, Replacement
from scorefield.operators import Dense, Gaussian, Mask, Noiseless, Poisson
from scorefield.solvers import DDIM, Ancestral, EulerMaruyama, Langevin, PredictorCorrector, Solver

SDE = VP()
D, M = 5, 3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


MATRIX, Y = normal(M, D, seed=1), normal(1, M, seed=2)
PRIOR = gaussian(SDE, torch.zeros(D), torch.linspace(0.2, 1.5, D))
TIMES = grids.uniform_log_snr(SDE, 12)
NOISE = Noise.per_sample(range(4))


def replacement(solver: Solver, y: Tensor = Y, relaxation: float = 1.0) -> Replacement:
    return Replacement(Dense(MATRIX), y, Noiseless(), solver, relaxation)


def test_after_a_replacement_the_state_has_the_noised_measurement():
    x, (now, next) = normal(4, D), SDE.knots([0.5, 0.4])
    solver = replacement(Ancestral())
    found = solver.step(PRIOR, x, now, next, None, noise=NOISE.at(1)).x
    z = NOISE.at(1).child(1).normal(x)
    torch.testing.assert_close(found @ MATRIX.mT, next.alpha * Y + next.sigma * z @ MATRIX.mT)
    before = Ancestral().step(PRIOR, x, now, next, None, noise=NOISE.at(1).child(0)).x
    null = torch.eye(D, dtype=torch.float64) - torch.linalg.pinv(MATRIX) @ MATRIX
    torch.testing.assert_close(found @ null, before @ null)  # the rest is the solver's
    half = replacement(Ancestral(), relaxation=0.5).step(PRIOR, x, now, next, None, noise=NOISE.at(1))
    torch.testing.assert_close(half.x, 0.5 * (found + before))


EXACT = [
    replacement(Ancestral()),
    PredictorCorrector(
        replacement(EulerMaruyama()),
        replacement(Langevin()),
    ),
    RePaint(Dense(MATRIX), Y, Noiseless(), Ancestral(), repeats=3),
    DDRM(Dense(MATRIX), Y, Noiseless()),
    DDNMPlus(Dense(MATRIX), Y, Noiseless()),
]


@pytest.mark.parametrize("solver", EXACT, ids=lambda s: type(s).__name__)
def test_the_samples_agree_with_a_measurement_without_noise(solver):
    """Which also shows that the last step, onto the data, is not left out."""
    x = sample(PRIOR, (D,), TIMES, solver, seeds=range(10))
    tolerance = 1e-8 if not isinstance(solver, DDNMPlus) else 1e-2  # the last step of DDNM+ is D, at little noise
    assert float((x @ MATRIX.mT - Y).abs().max()) < tolerance


def test_a_colour_basis_for_white_noise():
    """The mean of three channels, replaced, leaves the noise of the other two directions white."""
    grey = Dense(torch.full((1, 3), 1 / 3))
    x, (now, next) = normal(4000, 3), SDE.knots([0.5, 0.499])
    prior = gaussian(SDE, torch.zeros(3), torch.ones(3))
    noise = Noise.per_sample(range(4000))
    found = (
        Replacement(grey, torch.zeros(1, 1).double(), Noiseless(), Ancestral())
        .step(prior, x, now, next, None, noise=noise)
        .x
    )
    covariance = torch.cov(found.mT)
    # sigma^2 along (1,1,1)/sqrt 3, the prior's 1 across
    along = torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)
    across = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    error = 5 * math.sqrt(2 / 4000)  # a chi-square's relative standard deviation; false alarms below 1e-6
    assert abs(float(along @ covariance @ along) / next.sigma**2 - 1) < error
    assert abs(float(across @ covariance @ across) - 1) < error
    assert abs(float(along @ covariance @ across)) < 5 / math.sqrt(4000)


def test_repaint_of_one_round_is_replacement_and_more_rounds_mix():
    x, (now, next) = normal(4, D), SDE.knots([0.5, 0.4])
    one = RePaint(Dense(MATRIX), Y, Noiseless(), Ancestral(), repeats=1).step(PRIOR, x, now, next, None, noise=NOISE).x
    by_hand = Ancestral().step(PRIOR, x, now, next, None, noise=NOISE.child(0).child(1)).x
    z = NOISE.child(0).child(2).normal(x)
    target = next.alpha * Y + next.sigma * z @ MATRIX.mT
    pseudo = torch.linalg.pinv(MATRIX)
    torch.testing.assert_close(one, by_hand + (target - by_hand @ MATRIX.mT) @ pseudo.mT)
    # the way up is the forward process: from law p_next to p_now
    spread = (now.sigma / now.alpha) ** 2 - (next.sigma / next.alpha) ** 2
    (up,) = [now.alpha / next.alpha * one + now.alpha * math.sqrt(spread) * NOISE.child(1).child(0).normal(x)]
    again = Ancestral().step(PRIOR, up, now, next, None, noise=NOISE.child(1).child(1)).x
    target = next.alpha * Y + next.sigma * NOISE.child(1).child(2).normal(x) @ MATRIX.mT
    two = RePaint(Dense(MATRIX), Y, Noiseless(), Ancestral(), repeats=2).step(PRIOR, x, now, next, None, noise=NOISE).x
    torch.testing.assert_close(two, again + (target - again @ MATRIX.mT) @ pseudo.mT)


U, S, VT = torch.linalg.svd(MATRIX)


def ddrm(x: Tensor, now, next, z: Tensor, sigma: float, eta: float, eta_b: float) -> Tensor:
    """Kawar et al. 2022, equations 7 and 8, in the full basis V."""
    s, s_b = now.sigma / now.alpha, next.sigma / next.alpha
    xbar = x / now.alpha
    coordinates, noise, ybar, std = xbar @ VT.mT, z @ VT.mT, (Y @ U) / S, sigma / S
    denoised = PRIOR(x, now.time) @ VT.mT
    new = torch.empty_like(coordinates)
    for i in range(D):
        if i >= M:
            new[:, i] = (
                denoised[:, i]
                + math.sqrt(1 - eta**2) * s_b / s * (coordinates[:, i] - denoised[:, i])
                + eta * s_b * noise[:, i]
            )
        elif s_b < float(std[i]):
            pull = math.sqrt(1 - eta**2) * s_b * (ybar[:, i] - denoised[:, i]) / std[i]
            new[:, i] = denoised[:, i] + pull + eta * s_b * noise[:, i]
        else:
            spread = math.sqrt(s_b**2 - float(std[i]) ** 2 * eta_b**2)
            new[:, i] = (1 - eta_b) * denoised[:, i] + eta_b * ybar[:, i] + spread * noise[:, i]
    return next.alpha * new @ VT


@pytest.mark.parametrize("times", [(0.5, 0.4), (0.2, 0.1), (0.05, 0.02)])
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_ddrm_is_the_papers(times, sigma):
    x, (now, next) = normal(4, D), SDE.knots(times)
    noise = Gaussian(sigma) if sigma else Noiseless()
    solver = DDRM(Dense(MATRIX), Y, noise, eta=0.7, eta_b=0.9)
    first = solver.step(PRIOR, x, now, next, None, noise=NOISE)
    found = solver.step(PRIOR, x, now, next, first.state, noise=NOISE).x
    torch.testing.assert_close(found, ddrm(x, now, next, NOISE.normal(x), sigma, 0.7, 0.9))


def test_ddrm_begins_at_the_measurement():
    """Coordinates drawn from N(ybar, s^2 - std^2), so that with y they have the noise of the first time."""
    knots = SDE.knots([SDE.T, 0.9])
    x = SDE.prior.sample(torch.empty(4, D, dtype=torch.float64), NOISE)
    solver = DDRM(Dense(MATRIX), Y, Gaussian(0.3), eta=0.0, eta_b=0.0)
    seen: list[Tensor] = []

    class Watching(type(PRIOR)):
        def forward(self, x, t, **cond):
            seen.append(x)
            return super().forward(x, t)

    watching = Watching(SDE, torch.ones(1), torch.zeros(1, D), torch.linspace(0.2, 1.5, D)[None])
    solver.step(watching, x, *knots, None, noise=NOISE)
    s = knots[0].sigma / knots[0].alpha
    wanted = (Y @ U) / S + (s**2 - (0.3 / S) ** 2).sqrt() * (x / knots[0].alpha @ VT.mT)[:, :M] / s
    torch.testing.assert_close((seen[0] / knots[0].alpha @ VT.mT)[:, :M], wanted)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_ddnm_plus_has_the_noise_of_an_ancestral_step(sigma):
    """The law of y's own noise and the step's together is that of the ancestral step, as far as it can be."""
    x, (now, next) = normal(4, D), SDE.knots([0.3, 0.2])
    step = {}
    zero, unit = torch.zeros(1, M, dtype=torch.float64), torch.eye(M, dtype=torch.float64)

    def at(y: Tensor, noise) -> Tensor:
        moved = DDNMPlus(Dense(MATRIX), y, Gaussian(sigma)).step(PRIOR, x, now, next, None, noise=noise).x
        return moved / next.alpha @ VT.mT

    class Zero(Noise):
        def normal(self, like: Tensor, draw: int = 0) -> Tensor:
            return torch.zeros_like(like)

    class One(Zero):
        def normal(self, like: Tensor, draw: int = 0) -> Tensor:
            return torch.ones_like(like) @ VT  # one in each coordinate

    key = torch.arange(4)
    base = at(zero, Zero(key, key))
    step["own"] = (at(zero, One(key, key)) - base)[0]
    response = torch.stack([(at(zero + unit[k : k + 1], Zero(key, key)) - base)[0] for k in range(M)], 1)
    variance = step["own"] ** 2 + sigma**2 * (response**2).sum(1)
    s, s_b = now.sigma / now.alpha, next.sigma / next.alpha
    torch.testing.assert_close(variance, torch.full((D,), s_b**2 * (1 - (s_b / s) ** 2), dtype=torch.float64))


@pytest.mark.parametrize(
    "make",
    [
        lambda y: replacement(DDIM(), y),
        lambda y: RePaint(Dense(MATRIX), y, Noiseless(), DDIM(), repeats=2),
        lambda y: DDRM(Dense(MATRIX), y, Gaussian(0.2)),
        lambda y: DDNMPlus(Dense(MATRIX), y, Gaussian(0.2)),
        lambda y: PredictorCorrector(replacement(DDIM(), y), replacement(Langevin(), y)),
    ],
    ids=["Replacement", "RePaint", "DDRM", "DDNMPlus", "predictor-corrector"],
)
def test_each_sample_of_a_batch_has_its_own_measurement(make):
    solver = make(normal(5, M, seed=9))
    whole = sample(PRIOR, (D,), TIMES, solver, seeds=range(5))
    split = sample(PRIOR, (D,), TIMES, solver, seeds=range(5), batch_size=2)
    torch.testing.assert_close(whole, split, rtol=1e-8, atol=1e-8)
    one = sample(PRIOR, (D,), TIMES, make(normal(5, M, seed=9)[3:4]), seeds=[3])
    torch.testing.assert_close(whole[3:4], one, rtol=1e-8, atol=1e-8)


def test_bad_numbers():
    a = Mask(torch.arange(D) < M)
    for make, message in [
        (lambda: Replacement(a, Y, Noiseless(), DDIM(), relaxation=0.0), "relaxation must lie in"),
        (lambda: RePaint(a, Y, Noiseless(), DDIM(), repeats=0), "repeats must lie in"),
        (lambda: DDRM(a, Y, Gaussian(1.0), eta=1.5), "eta and eta_b must lie in"),
        (lambda: DDRM(a, Y, Poisson(0.1)), "noise of one variance"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
