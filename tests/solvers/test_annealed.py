"""Annealed Langevin dynamics: the modes that it finds, and its step sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_langevin import Given, coefficients, states, two_modes

from scorefield import EDM, VP, GaussianMixture, Noise, chain, gaussian
from scorefield.sampling import integrate
from scorefield.solvers import (
    BAOAB,
    AnnealedLangevin,
    Langevin,
    Solver,
)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "solver",
    [AnnealedLangevin(BAOAB(0.5), 10), pytest.param(AnnealedLangevin(Langevin(0.2), 200), marks=pytest.mark.slow)],
    ids=["BAOAB", "Langevin"],
)
def test_annealing_finds_the_weights_of_modes_that_a_chain_at_the_lowest_noise_cannot(solver: Solver) -> None:
    # Song & Ermon 2019, section 3.2.2. Shares of n samples: 4.9 standard errors are exceeded with probability 1e-6
    sde = EDM(T=12.0, t_min=0.1, t_end=0.1)
    model = GaussianMixture(sde, torch.tensor([0.2, 0.8]), torch.tensor([[-3.0], [3.0]]), torch.full((2,), 0.09))
    model = model.float()

    def share(n: int, run: Any) -> float:
        noise = Noise.per_sample(range(n))
        x = run(sde.prior.sample(torch.empty(n, 1), noise.at(0)), noise)
        assert float(((x.abs() - 3).abs() < 2).float().mean()) > 0.999  # all have come to a mode
        return float((x > 0).float().mean())

    alone = share(2_000, lambda x, noise: chain(model, x, 0.1, Langevin(0.4), 200, noise=noise))
    assert abs(alone - 0.5) < 0.07  # 4.9 sqrt(.25 / 2,000) = 0.055: it splits them as the start does, evenly
    levels = [12.0 * 120 ** (-k / 18) for k in range(19)]
    annealed = share(18_000, lambda x, noise: integrate(model, x, [*levels, 0.0], solver, noise=noise))
    assert abs(annealed - 0.8) < 0.02  # 4.9 sqrt(.16 / 18,000) = 0.0146; the rest is room for its bias


def test_the_default_steps_are_those_of_ncsn() -> None:
    # x + a/2 s + sqrt(a) z with a = epsilon sigma^2 / sigma_L^2, epsilon = 2e-5, sigma_L = 0.01, T = 100
    assert AnnealedLangevin().steps == 100
    sde = EDM()
    model = two_modes(sde)
    x, z = states(10)
    now, next = sde.knots([1.0, 0.7])
    y = AnnealedLangevin(steps=1).step(model, x, now, next, None, noise=Given(z, z[:, 0])).x
    a = 2e-5 * 0.7**2 / 0.01**2
    torch.testing.assert_close(y, x + 0.5 * a * model.score(x, next.time) + math.sqrt(a) * z, rtol=1e-4, atol=1e-4)


def test_annealed_steps_start_from_states_scaled_to_the_next_level() -> None:
    sde = VP()
    model = gaussian(sde, torch.zeros(1), torch.tensor([0.5]))
    now, next = sde.knots([0.6, 0.4])
    x, _ = states(4)
    noise = Noise.per_sample(range(4))
    y = next.alpha / now.alpha * x
    state = None
    for k in range(3):
        y, state, *_ = BAOAB().step(model, y, next, next, state, noise=noise.child(0).child(k))
    assert torch.equal(AnnealedLangevin(BAOAB(), 3).step(model, x, now, next, None, noise=noise).x, y)


@pytest.mark.parametrize(("ratio", "steps"), [(1.0376, 5), (1.2, 1), (1.6, 20), (3.0, 100), (1.005, 3)])
def test_the_step_size_of_ncsnv2_leaves_the_variance_nearest_to_that_of_the_next_level(
    ratio: float, steps: int
) -> None:
    solver = AnnealedLangevin.ncsnv2(ratio, steps)
    assert isinstance(solver.corrector, Langevin)
    assert solver.steps == steps
    # data at one point: the law is the noise alone, and the real steps are run on it
    sde = EDM()
    model = gaussian(sde, torch.zeros(3), torch.zeros(3))

    def variance(r: float) -> float:
        ends = coefficients(Langevin(math.sqrt(r / 2)), model, 2.0, steps, 2.0 * ratio)
        return float(ends.square().sum(0)[0]) / 4

    def formula(r: float) -> float:
        q = 2 * r / (1 - (1 - r) ** 2)
        return (1 - r) ** (2 * steps) * (ratio**2 - q) + q

    best = 2 * solver.corrector.snr**2
    assert variance(best) == pytest.approx(formula(best), rel=1e-9)
    others = [abs(formula(10 ** (-k / 500)) - 1) for k in range(1, 4000)]
    assert abs(formula(best) - 1) <= min(others) * (1 + 1e-6)


def test_the_step_sizes_of_ncsnv2_are_the_published_ones() -> None:
    # their configurations (CIFAR-10, CelebA, bedrooms, FFHQ): sigma_1, levels, steps a level, and epsilon to two digits
    for first, levels, steps, epsilon in (
        (50, 232, 5, 6.2e-6),
        (90, 500, 5, 3.3e-6),
        (190, 1086, 3, 1.8e-6),
        (348, 2311, 3, 0.9e-6),
    ):
        corrector: Any = AnnealedLangevin.ncsnv2((first / 0.01) ** (1 / (levels - 1)), steps).corrector
        assert 2 * corrector.snr**2 * 0.01**2 == pytest.approx(epsilon, rel=0.02)  # epsilon / sigma_L^2 = r
