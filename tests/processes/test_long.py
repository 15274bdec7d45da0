"""Processes that go on for longer than anything is left of the data."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.processes import LONG, PROCESSES, constant, name

from scorefield import (
    EDM,
    VE,
    VP,
    LinearSDE,
    Noise,
    NoisePrecond,
    NoiseProfile,
    NormalPrior,
    Power,
    Preconditioned,
    SubVP,
    decode,
    default,
    elbo,
    encode,
    gaussian,
    grids,
    log_prob,
    network_calls,
)
from scorefield.certify import optimised_grid, output_law
from scorefield.nn import MLP, seeded
from scorefield.objectives import DenoisingScoreMatching
from scorefield.objectives.states import path_times
from scorefield.objectives.time_densities import Levels, LogNormalSigma, TimeDensity, UniformLogSNR, UniformTime
from scorefield.posterior.levels import knots_between
from scorefield.sampling import adaptive, stochastic
from scorefield.solvers import DDIM

pytestmark = pytest.mark.usefixtures("unchecked")

LARGE = [VE(sigma_max=1e10), EDM(T=1e8), Power(1e6)]  # noise that is as large as the data that it is made for
every_long = pytest.mark.parametrize("sde", LONG, ids=lambda sde: f"{name(sde)} {sde.T}")


@every_long
def test_a_long_process_starts_where_the_data_are_lost(sde):
    assert sde.t_start < sde.T
    start, end = sde.knots([sde.t_start, sde.T])
    assert start.sigma / start.alpha == pytest.approx(2**20 * max(1, end.sigma), rel=1e-6)


@pytest.mark.parametrize("sde", [*PROCESSES, *LARGE], ids=name)
def test_a_process_that_ends_before_starts_at_its_end(sde):
    assert sde.t_start == sde.T


# ---- the same as the process that ends at t_start


every_cut = pytest.mark.parametrize("sde", [VP(T=20.0), SubVP(T=15.0)], ids=name)
GRIDS = [grids.uniform, grids.quadratic, grids.uniform_log_snr, grids.uniform_information, grids.karras]


@every_cut
def test_grids_spend_their_steps_where_the_data_are(sde):
    short = replace(sde, T=sde.t_start)
    for grid in GRIDS:
        assert grid(sde, 9)[0] == sde.T and grid(sde, 9)[1:] == pytest.approx(grid(short, 9)[1:], rel=1e-9)
    for nfe in (1, 3, 5, 20):
        (solver, times), (same, expected) = default(sde, nfe), default(short, nfe)
        assert solver == same and times[0] == sde.T and times[1:] == pytest.approx(expected[1:], rel=1e-9)
        assert network_calls(sde, times, solver) == nfe
    assert adaptive(sde, 1e-3)[1][1:] == pytest.approx(adaptive(short, 1e-3)[1][1:])
    for steps in (1, 3, 7, 40):
        (solver, times), (same, expected) = stochastic(sde, steps, 0.1), stochastic(short, steps, 0.1)
        assert solver == same and times[1:] == pytest.approx(expected[1:])
    assert [k.t for k in knots_between(sde, math.inf, 0.1, 5)] == pytest.approx(
        [k.t for k in knots_between(short, math.inf, 0.1, 5)]
    )


def test_an_optimised_grid_is_no_worse():
    v = torch.tensor([1.0, 0.1])
    found, expected = (
        output_law(DDIM(), optimised_grid(DDIM(), 4, process, v), process, v).error for process in (VP(T=20.0), VP())
    )
    assert found < 1.05 * expected


def test_the_chain_of_ddpm_does_not_go_beyond():
    sde = VP(beta_max=2000.0)
    times = grids.ddpm(sde, 4000)
    assert times[0] == sde.T and times[1] < sde.t_start
    assert all(b < a for a, b in pairwise(times))


@every_cut
@pytest.mark.parametrize("density", [UniformTime(), UniformLogSNR(), LogNormalSigma(), Levels()], ids=str)
def test_training_asks_for_no_noise_beyond(sde, density: TimeDensity):
    short, u = replace(sde, T=sde.t_start), torch.linspace(0, 0.999, 50, dtype=torch.float64)
    for found, expected in zip(density(sde, u), density(short, u), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    assert path_times(sde, 10) == pytest.approx(path_times(short, 10))
    # NoisePrecond divides by alpha, which is 0 at T
    losses = []
    for process in (sde, short):
        with seeded(0):
            model = Preconditioned(MLP((2,), features=16, blocks=1), process, NoisePrecond())
        losses.append(DenoisingScoreMatching(density)(model, torch.ones(40, 2), noise=Noise.per_batch(0, 40)))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        torch.tensor(NoiseProfile.of_normal(sde).log_snr), torch.tensor(NoiseProfile.of_normal(short).log_snr)
    )


# ---- LinearSDE


@pytest.mark.parametrize("T", [0.1, 1.0, 40.0, 1000.0])
def test_the_variance_of_a_process_at_rest_stays(T):
    sde = LinearSDE(lambda t: -1 - 0.5 * torch.sin(t), lambda t: (2 + torch.sin(t)).sqrt(), T=T)
    # so little below the ends of cells that rounding puts some in the next
    t = torch.nextafter(torch.arange(1, 129, dtype=torch.float64) * (T / 128), torch.zeros(()).double())
    # g^2 = -2 a, so that alpha^2 + sigma^2 = 1
    log_alpha = -t - 0.5 * (1 - t.cos())
    torch.testing.assert_close(sde.sigma(t), (-torch.expm1(2 * log_alpha)).sqrt(), rtol=1e-10, atol=0)
    log_snr = 2 * log_alpha - (-torch.expm1(2 * log_alpha)).log()
    torch.testing.assert_close(sde.log_snr(t), log_snr, rtol=1e-10, atol=1e-10)
    assert sde.prior.std == pytest.approx(1, abs=1e-10)


def test_few_cells_are_not_taken_for_enough():
    # with 64 cells of 156 time units the variance is wrong by any factor, and as wrong with 128
    sde = LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=1e4)
    t = torch.tensor([1.0, 10.0, 5e3, 1e4], dtype=torch.float64)
    torch.testing.assert_close(sde.sigma(t), (-torch.expm1(-2 * t)).sqrt(), rtol=1e-9, atol=0)


def test_what_early_rates_do_is_not_lost_in_a_long_process():
    # int g^2 / alpha^2 is e^120 at the end, beside which nothing early counts
    def rates(T):
        return LinearSDE(constant(-1.0), lambda t: 1 + 0.9 * torch.sin(60 * t) * (-2 * t).exp(), T=T)

    t = torch.linspace(0.01, 2, 30, dtype=torch.float64)
    torch.testing.assert_close(rates(60.0).sigma(t), rates(2.0).sigma(t), rtol=1e-9, atol=0)


# ---- what float64 or float32 cannot hold


def test_states_too_small_for_their_type_are_refused():
    # alpha and sigma vanish together: there is no noise that is large beside the data, and no t_start
    sde = LinearSDE(constant(-100.0), lambda t: 3 * (-100 * t).exp(), T=1.0)
    assert sde.t_start == sde.T
    model = gaussian(sde, torch.zeros(2), torch.tensor(0.5))
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    (knot,) = sde.knots([sde.t_min])
    exact = model.log_prob(knot.alpha * x, knot.time) + 2 * math.log(knot.alpha)
    found = log_prob(model, x, prior=model.marginal(sde.T)).nats
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)
    assert float((decode(model, encode(model, x, steps=40), steps=40) - x).abs().max()) < 1e-5
    y = x.float()
    for call in (
        lambda: log_prob(model, y),
        lambda: log_prob(model, y, tolerance=1e-3),
        lambda: elbo(model, y),
        lambda: encode(model, y),
        lambda: decode(model, y),
        lambda: NormalPrior(1e-43).sample(y, Noise.per_sample([0])),
        lambda: NormalPrior(1e40).sample(y, Noise.per_sample([0])),
    ):
        with pytest.raises(ValueError, match=r"float32 cannot hold states of .* 1.*smaller T, or float64"):
            call()


def test_noise_whose_square_is_infinite_is_refused():
    for sde in (VE(sigma_max=1e200), EDM(T=1e160), Power(T=1e3)):
        model = gaussian(sde, torch.zeros(2), torch.ones(2))
        for call in (lambda: default(sde, 20) and sde.prior, lambda: log_prob(model, torch.ones(1, 2))):  # noqa: B023
            with pytest.raises(ValueError, match=rf"sigma = .*sigma below 1e\+150.* T = {re.escape(str(sde.T))}"):
                call()
