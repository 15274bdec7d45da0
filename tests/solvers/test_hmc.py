"""Leapfrog paths in closed form, acceptance, and the laws that HMC and MALA keep."""

from __future__ import annotations

import math

import pytest
import torch
from test_langevin import (
    POINTS,
    Given,
    Plain,
    always,
    at_every_point,
    hamiltonian,
    law_at,
    log_ratio,
    path,
    states,
    two_modes,
)
from torch import Tensor

from scorefield import VP, GaussianMixture, GaussianSDE, Knot, Noise, chain, gaussian
from scorefield.score import Denoiser, LogDensity
from scorefield.solvers import (
    HMC,
    MALA,
    Langevin,
)


@pytest.mark.parametrize("steps", [1, 4, 13])
@at_every_point
def test_a_leapfrog_path_on_a_gaussian_is_a_rotation_in_closed_form(sde: GaussianSDE, t: float, steps: int) -> None:
    model, v, knot = law_at(sde, t)
    corrector = HMC(0.45, steps=steps) if steps > 1 else MALA(0.45)
    h = 0.9 * knot.sigma
    x, p = (z * s for z, s in zip(states(20, 3), (v.sqrt(), 1.0), strict=True))
    y, momentum, _ = path(corrector, model, x, knot, p)
    angle = steps * (1 - h**2 / (2 * v)).arccos()
    width = (v / (1 - h**2 / (4 * v))).sqrt()
    torch.testing.assert_close(y, angle.cos() * x + angle.sin() * width * p, rtol=1e-9, atol=1e-9 * knot.sigma)
    torch.testing.assert_close(momentum, angle.cos() * p - angle.sin() / width * x, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("point", "corrector"), [(0, HMC(0.6, steps=5)), (3, HMC(0.8, steps=2)), (2, MALA(0.7))])
def test_acceptance_on_a_gaussian_in_closed_form_with_and_without_the_log_density(point: int, corrector: HMC) -> None:
    # the line integral of a linear score by the trapezoidal rule is exact
    model, v, knot = law_at(*POINTS[point])
    x, p = (z * s for z, s in zip(states(40, 3), (v.sqrt(), 1.0), strict=True))
    y, momentum, _ = path(corrector, model, x, knot, p)
    expected = -0.5 * (((y**2 - x**2) / v) + momentum**2 - p**2).sum(1)
    assert isinstance(model, LogDensity)
    assert not isinstance(Plain(model), LogDensity)
    assert 5 < int((expected < -1e-3).sum()) < 35
    for score in (model, Plain(model)):
        found = log_ratio(corrector, score, x, knot, p)
        torch.testing.assert_close(found, expected.clamp_max(0), rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("corrector", [HMC(0.5, steps=4), MALA(0.8)], ids=str)
def test_acceptance_is_that_of_the_energy_with_a_log_density_and_near_it_without(corrector: HMC) -> None:
    model = two_modes(VP(), 2)
    (knot,) = VP().knots([0.2])
    x, p = states(60, 2)
    y, momentum, _ = path(corrector, model, x, knot, p)
    expected = hamiltonian(model, x, p, knot) - hamiltonian(model, y, momentum, knot)
    torch.testing.assert_close(log_ratio(corrector, model, x, knot, p), expected.clamp_max(0), rtol=1e-8, atol=1e-10)
    gap = (log_ratio(corrector, Plain(model), x, knot, p) - expected.clamp_max(0)).abs()
    assert 1e-3 < float(gap.mean()) < 0.3  # the line integral errs by O(h^2) where the score bends


def test_a_leapfrog_path_goes_back_where_it_came_from() -> None:
    model = two_modes(VP(), 2)
    (knot,) = VP().knots([0.2])
    corrector = HMC(0.4, steps=7)
    x, p = states(30, 2)
    y, momentum, there = path(corrector, model, x, knot, p)
    back, momentum_back, again = path(corrector, model, y, knot, -momentum)
    assert float((y - x).abs().mean()) > 0.3
    torch.testing.assert_close(back, x, rtol=0, atol=1e-11)
    torch.testing.assert_close(momentum_back, -p, rtol=0, atol=1e-11)
    for one, other in zip(there, reversed(again), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_a_leapfrog_path_conserves_the_energy_to_second_order() -> None:
    # a path of one length in finer steps; a half-step of wrong length makes it order 1
    model = two_modes(VP())
    (knot,) = VP().knots([0.2])
    x, p = states(200)
    losses = []
    for steps in (12, 24):
        y, momentum, _ = path(HMC(1.2 / steps, steps=steps), model, x, knot, p)
        losses.append(float((hamiltonian(model, y, momentum, knot) - hamiltonian(model, x, p, knot)).abs().mean()))
    assert math.log2(losses[0] / losses[1]) == pytest.approx(2, abs=0.15)
    assert losses[1] < 0.01


def moments(model: GaussianMixture, knot: Knot) -> Tensor:
    """E x, E x^2, E x^4 of the first component."""
    m, v = knot.alpha * model.means[:, 0], knot.alpha**2 * model.variances[:, 0] + knot.sigma**2
    return torch.stack([(model.weights * e).sum() for e in (m, m**2 + v, m**4 + 6 * m**2 * v + 3 * v**2)])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("corrector", [HMC(0.8, steps=3), MALA(0.9)], ids=str)
def test_chains_with_a_log_density_stay_at_their_law_for_large_steps(corrector: HMC) -> None:
    # each moment errs by less than 4.9 standard errors but for a probability of 1e-6; without refusals E x^4 is off by
    # many times that (mutant: acceptance always true)
    n, t = 40_000, 0.15
    model = two_modes(VP())
    (knot,) = VP().knots([t])
    noise = Noise.per_sample(range(n))
    x = model.marginal(t).sample(torch.empty(n, 1, dtype=torch.float64), noise.at(0))
    shares: list[float] = []
    y = chain(
        model,
        x,
        t,
        corrector,
        8,
        noise=noise,
        callback=lambda k, knot, step: shares.append(float(step.info["accepted"].double().mean())),  # type: ignore[index]
    )
    assert 0.3 < min(shares) <= max(shares) < 0.9
    assert float((y - x).abs().mean()) > 0.3
    values = torch.stack((y[:, 0], y[:, 0] ** 2, y[:, 0] ** 4))
    errors = (values.mean(1) - moments(model, knot)) / (values.std(1) / math.sqrt(n))
    assert float(errors.abs().max()) < 4.9


@pytest.mark.usefixtures("unchecked")
def test_chains_without_a_log_density_stay_near_their_law() -> None:
    # E x and E x^2 within 4.9 standard errors (false alarm 1e-6) and 3 % of the size, which is the line integral's bias
    n, t = 20_000, 0.15
    model = two_modes(VP())
    (knot,) = VP().knots([t])
    noise = Noise.per_sample(range(n))
    x = model.marginal(t).sample(torch.empty(n, 1, dtype=torch.float64), noise.at(0))
    y = chain(Plain(model), x, t, HMC(0.3, steps=4), 12, noise=noise)
    values, size = torch.stack((y[:, 0], y[:, 0] ** 2)), float(moments(model, knot)[1])
    bounds = 4.9 * values.std(1) / math.sqrt(n) + 0.03 * size
    assert bool(((values.mean(1) - moments(model, knot)[:2]).abs() < bounds).all())


class _Cliff(Denoiser):
    """N(0, 1) at all times, but no number beyond x = 1."""

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return torch.where(x > 1, math.nan, self.sde.alpha(t) * x)


def test_paths_to_where_the_score_is_no_number_are_refused() -> None:
    model, n = _Cliff(VP()), 200
    (knot,) = VP().knots([0.5])
    x, p = states(n)
    x = x.clamp_max(0.9)
    step = HMC(0.2, steps=5).step(model, x, knot, knot, None, noise=Given(p, always(x)))
    accepted = step.info["accepted"]  # type: ignore[index]
    assert 20 < int(accepted.sum()) < 180
    assert torch.equal(step.x[~accepted], x[~accepted])
    assert bool((step.x[accepted] != x[accepted]).all())
    # the score that is kept is that of where the sample stays
    torch.testing.assert_close(step.state.score, model.score(step.x, knot.time), rtol=1e-12, atol=0)
    kept = chain(model, x, 0.5, HMC(0.2, steps=5), 20, noise=Noise.per_sample(range(n)))
    assert float(kept.max()) <= 1


def test_mala_proposes_the_step_of_langevin() -> None:
    model = two_modes(VP(), 2)
    (knot,) = VP().knots([0.3])
    x, p = states(10, 2)
    proposed, plain = (
        solver.step(model, x, knot, knot, None, noise=Given(p, always(x))).x for solver in (MALA(0.3), Langevin(0.3))
    )
    torch.testing.assert_close(proposed, plain, rtol=1e-12, atol=1e-12)


def test_a_condition_does_not_hide_the_log_density() -> None:
    # a constant of each label moves log p and not the score: acceptance must take the one of its own row
    class Labelled(GaussianMixture):
        def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
            return super().forward(x, t)

        def log_density(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
            return super().log_density(x, t) + cond["label"] * (x[:, 0] > 0)

    model = Labelled(VP(), torch.ones(1), torch.zeros(1, 1), torch.ones(1))
    label = torch.tensor([0.0, -50.0, 50.0])
    given = model.given(label=label)
    x, z = torch.full((3, 1), -0.2, dtype=torch.float64), torch.full((3, 1), 3.0, dtype=torch.float64)
    (knot,) = VP().knots([0.5])
    assert isinstance(given, LogDensity) and isinstance(given.select(torch.tensor([1]), 3), LogDensity)
    found = log_ratio(MALA(0.3), given, x, knot, z)
    assert float(found[0]) > -1 and float(found[1]) == pytest.approx(float(found[0]) - 50, abs=1.0)
    assert float(found[2]) == pytest.approx(0, abs=1e-9)  # accepted whatever the number
    plain = gaussian(VP(), torch.zeros(1), torch.ones(1))
    assert isinstance(plain.given(), LogDensity) and not isinstance(Plain(plain), LogDensity)
