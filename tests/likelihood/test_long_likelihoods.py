"""Likelihoods and encodings of processes that go on for longer than anything is left of the data."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.processes import LONG, name

from scorefield import (
    EDM,
    VE,
    VP,
    GaussianSDE,
    Noise,
    Power,
    SubVP,
    decode,
    elbo,
    encode,
    gaussian,
    grids,
    log_prob,
    prior_mismatch,
)
from scorefield.certify import output_law
from scorefield.solvers import UniPC

pytestmark = pytest.mark.usefixtures("unchecked")

LARGE = [VE(sigma_max=1e10), EDM(T=1e8), Power(1e6)]  # noise that is as large as the data that it is made for
several = pytest.mark.parametrize("sde", [LONG[2], LONG[-1]], ids=lambda sde: f"{name(sde)} {sde.T}")


def problem(sde: GaussianSDE, dtype: torch.dtype = torch.float64):
    """A normal law, points, and its log-density with the noise of t_min there."""
    mean, variance = torch.tensor([0.3, -0.2]), torch.tensor([0.5, 0.1])
    model = gaussian(sde, mean, variance)
    x = mean + Noise.per_sample(range(6)).normal(torch.empty(6, 2, dtype=torch.float64)) * variance.sqrt()
    x = x.to(dtype).double()
    (knot,) = sde.knots([sde.t_min])
    exact = model.log_prob(knot.alpha * x, knot.time) + 2 * math.log(knot.alpha)
    return model, x.to(dtype), exact


@several
def test_likelihoods_by_steps_of_their_own_size(sde):
    model, x, exact = problem(sde)
    assert float((log_prob(model, x[:2], tolerance=1e-6).nats - exact[:2]).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("sde", "dtype"),
    [*((sde, torch.float64) for sde in LONG), *((sde, torch.float32) for sde in (LONG[2], *LONG[-2:]))],
    ids=lambda value: f"{name(value)} {value.T}" if isinstance(value, GaussianSDE) else str(value),
)
def test_likelihoods_and_encodings(sde, dtype):
    model, x, exact = problem(sde, dtype)
    assert float((log_prob(model, x).nats - exact).abs().max()) < 1e-4
    latent = encode(model, x, steps=40)
    assert float((decode(model, latent, steps=40) - x).abs().max()) < 1e-4
    # at T the law is the prior, and the map to it that of each component's quantiles
    (knot,) = sde.knots([sde.T])
    (first,) = sde.knots([sde.t_min])
    spread = (torch.tensor([0.5, 0.1]) + (first.sigma / first.alpha) ** 2).sqrt()
    expected = knot.sigma * (x - torch.tensor([0.3, -0.2])) / spread
    torch.testing.assert_close(latent, expected.to(dtype), rtol=0, atol=1e-4 * knot.sigma)


@pytest.mark.parametrize("sde", [*LARGE, VE(sigma_max=1e100), Power(T=50.0)], ids=lambda sde: f"{name(sde)} {sde.T}")
def test_likelihoods_of_processes_with_large_noise(sde):
    model, x, exact = problem(sde)
    assert float((log_prob(model, x).nats - exact).abs().max()) < 1e-4
    assert float((decode(model, encode(model, x, steps=40), steps=40) - x).abs().max()) < 1e-4


def test_data_as_large_as_the_noise_are_seen_to_its_end():
    # raw units: nothing of a process whose noise is large is left out, however large its ratio
    sde = VE(1e3, 1e10, t_end=1e-5)
    model = gaussian(sde, torch.zeros(2), torch.tensor([1e16, 4e15]))
    x = torch.tensor([[5e7, -2e7]], dtype=torch.float64)
    (knot,) = sde.knots([sde.t_min])
    found = log_prob(model, x, tolerance=1e-6, prior=model.marginal(sde.T)).nats
    assert float((found - model.log_prob(x, knot.time)).abs()) < 1e-4
    law = output_law(UniPC(), grids.uniform_log_snr(sde, 60), sde, torch.tensor([1e16, 4e15]))
    assert law.error < 1e-2


@pytest.mark.parametrize("sde", [VP(T=20.0), SubVP(T=15.0)], ids=name)
def test_bounds_are_those_of_the_process_that_ends_at_t_start(sde):
    (model, x, _), (short, *_) = problem(sde), problem(replace(sde, T=sde.t_start))
    torch.testing.assert_close(elbo(model, x).nats, elbo(short, x).nats, rtol=0, atol=1e-6)
    assert prior_mismatch(sde, x) < 1e-20  # the one at T itself
