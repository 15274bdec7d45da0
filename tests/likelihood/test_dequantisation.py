"""Bounds for integers whose probabilities are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from scorefield import (
    VE,
    VP,
    Cells,
    ExactTrace,
    GaussianMixture,
    Hutchinson,
    Noise,
    ScoreModel,
    TruncatedNormal,
    Uniform,
    gaussian,
)
from scorefield.data import Affine
from scorefield.likelihood import Dequantisation, Divergence, averaged

pytestmark = pytest.mark.usefixtures("unchecked")
LEVELS = 5


def smooth(std: float = 0.2) -> tuple[ScoreModel, Tensor]:
    """A model of one integer, and log P of each: the share of its cell, wider than the noise at t_min, of N(0, std^2).

    The noise sigma = 0.1 at t_min belongs to the model's law.
    """
    sde = VE(sigma_min=0.1, t_min=1e-6, t_end=1e-6)
    model = ScoreModel(gaussian(sde, torch.zeros(1), torch.tensor(std**2)), (1,), Affine.of_levels(LEVELS))
    edges = torch.linspace(-1, 1, LEVELS + 1, dtype=torch.float64)
    law = torch.distributions.Normal(0.0, math.hypot(std, sde.knots([sde.t_min])[0].sigma))
    return model, law.cdf(edges).diff().log()


@pytest.mark.parametrize("rule", [Uniform(), TruncatedNormal()], ids=["uniform", "truncated normal"])
def test_bounds_hold_and_more_draws_tighten_them(rule: Dequantisation) -> None:
    """Each within 4.9 standard errors (1e-6).

    Killed by a Jacobian of one bit more or less, by log q left out, by a logarithm of K left out.
    """
    model, log_p = smooth()
    n, k = 1500, 3
    x = torch.full((n, 1), k, dtype=torch.uint8)
    means, errors = [], []
    for draws in (1, 4, 16):
        result = model.log_prob(x, seeds=range(n), draws=draws, dequantisation=rule)
        assert result.nfe.tolist() == [60 * draws] * n
        torch.testing.assert_close(sum(result.terms.values()), result.nats)
        means.append(float(result.nats.double().mean()))
        errors.append(float(result.nats.double().std()) / math.sqrt(n))
    truth = float(log_p[k])
    gaps = [truth - mean for mean in means]
    assert all(gap > -4.9 * error for gap, error in zip(gaps, errors, strict=True))
    assert gaps[0] - gaps[1] > 4.9 * errors[0] and gaps[1] - gaps[2] > 4.9 * errors[1]
    assert gaps[2] < 0.2 * gaps[0]


def wide_cells() -> tuple[ScoreModel, Tensor]:
    """A model of 16 integers with cells as wide as its standard deviations, and one sample."""
    sde = VE(sigma_min=0.1, t_min=1e-6, t_end=1e-6)
    model = ScoreModel(gaussian(sde, torch.zeros(16), torch.linspace(0.02, 0.2, 16)), (16,), Affine.of_levels(LEVELS))
    return model, torch.tensor([[1, 2, 3, 2, 2, 1, 3, 2, 1, 2, 2, 3, 1, 2, 2, 2]])


@pytest.mark.parametrize(
    ("draws", "divergence"),
    [
        (1, ExactTrace()),
        pytest.param(1, Hutchinson(2), marks=pytest.mark.slow),
        pytest.param(3, ExactTrace(), marks=pytest.mark.slow),
    ],
)
def test_a_dequantised_copy_has_no_error_bar_and_repeats_give_one(draws: int, divergence: Divergence) -> None:
    """Student's intervals over 4 repeats cover the mean of all: 95 +- 1.7 % of 4000 (1e-6).

    The estimates scatter by some nats. Killed by the trace's own error bar, which knows nothing of the cells.
    """
    model, x = wide_cells()
    n = 4000
    repeats = [
        model.log_prob(x.expand(n, -1), seeds=range(k * n, (k + 1) * n), steps=2, draws=draws, divergence=divergence)
        for k in range(4)
    ]
    assert all(bool(one.stderr.isnan().all()) and one.probes.shape == (n, 1) for one in repeats)
    assert float(repeats[0].nats.std()) > 0.5
    result = averaged(repeats)
    torch.testing.assert_close(result.nats, sum(one.nats for one in repeats) / 4)
    torch.testing.assert_close(sum(result.terms.values()), result.nats)
    assert torch.equal(result.nfe, sum(one.nfe for one in repeats)) and result.probes.shape == (n, 4)
    width = stats.t.ppf(0.975, 3) * result.stderr
    covered = float(((result.nats - result.nats.mean()).abs() <= width).double().mean())
    assert 0.933 <= covered <= 0.967, covered


def test_repeats_are_of_one_kind() -> None:
    model, x = wide_cells()
    one, other = (model.log_prob(x.expand(n, -1), steps=1) for n in (1, 2))
    with pytest.raises(ValueError, match=r"as many probes each; got probes of \[\(1, 1\), \(2, 1\)\]"):
        averaged([one, other])


@pytest.mark.parametrize("width", [0.05, 0.4, 3.0])
def test_truncated_normal_noise_has_the_density_it_says(width: float) -> None:
    """Its entropy is the closed form, and E[1/q] = 1, of 200,000 draws; killed by Z left out or tau without the 2."""
    n, s = 200_000, 0.1
    like = torch.empty(n, 1, dtype=torch.float64)
    draw = TruncatedNormal().draw(like, torch.tensor([width]), s, Noise.per_sample(range(n)))
    assert float(draw.u.min()) >= 0 and float(draw.u.max()) <= 1
    tau = width / (2 * s)
    z = math.erf(tau / math.sqrt(2))
    entropy = 0.5 * math.log(2 * math.pi * math.e * s**2) + math.log(z)
    entropy -= tau * math.exp(-0.5 * tau**2) / (math.sqrt(2 * math.pi) * z) + math.log(width)
    error = float(draw.log_density.std()) / math.sqrt(n)
    assert abs(float(draw.log_density.mean()) + entropy) < 4.9 * error + 1e-12
    if tau < 3:
        inverse = (-draw.log_density).exp()
        assert abs(float(inverse.mean()) - 1) < 4.9 * float(inverse.std()) / math.sqrt(n) + 1e-12


def centred() -> tuple[ScoreModel, Tensor, Tensor]:
    """A model of integers in the plane that was trained on the cells' centres, integers, and their probabilities."""
    k = torch.tensor([[0, 0], [0, 4], [2, 2], [4, 1]])
    p = torch.tensor([0.1, 0.2, 0.4, 0.3], dtype=torch.float64)
    transform = Affine.of_levels(LEVELS)
    centres = transform.forward(k, torch.full((4, 2), 0.5, dtype=torch.float64))
    return ScoreModel(GaussianMixture(VP(t_min=1e-3), p, centres, torch.zeros(4)), (2,), transform), k, p


def test_truncated_normal_noise_closes_the_gap_of_a_model_of_centres() -> None:
    """The density at t_min within a cell is P(k) times its noise: one draw gives log P(k) itself, uniform noise does
    not."""
    model, k, p = centred()
    result = model.log_prob(k, steps=40, dequantisation=TruncatedNormal())
    torch.testing.assert_close(result.nats.double(), p.log(), rtol=0, atol=0.02)
    assert float(model.log_prob(k, steps=40).nats.max()) < float(p.log().min()) - 5


def test_the_bound_of_a_model_of_centres_is_the_probability() -> None:
    model, k, p = centred()
    n = 1500
    result = model.elbo(k.repeat_interleave(n, 0), draws=16, centred=True)
    nats = result.nats.reshape(4, n).double()
    assert bool(((nats.mean(1) - p.log()).abs() < 4.9 * nats.std(1) / math.sqrt(n) + 1e-3).all())
    assert result.discrete and set(result.terms) == {"prior", "diffusion", "decoder"}


def test_the_bound_of_a_model_of_dequantised_data() -> None:
    """E_u of the density's bound: the same expectation as by the ODE where the score is exact (1e-6)."""
    model, _ = smooth()
    n = 3000
    x = torch.full((n, 1), 3, dtype=torch.uint8)
    profile = model.noise_profile(torch.arange(LEVELS)[:, None])
    bound, ode = model.elbo(x, draws=8, profile=profile), model.log_prob(x[:500])
    # the noise of t_min, which the bound adds to the dequantised integers, broadens them: second order in its variance
    s2, total = 0.1**2, 0.2**2 + 0.1**2
    wanted = float(ode.nats.double().mean()) - 0.5 * s2 / total
    error = math.hypot(float(bound.nats.std()) / math.sqrt(n), float(ode.nats.std()) / math.sqrt(500))
    assert abs(float(bound.nats.double().mean()) - wanted) < 4.9 * error < 0.3
    torch.testing.assert_close(sum(bound.terms.values()), bound.nats)
    torch.testing.assert_close(bound.bits_per_dim, -bound.nats / math.log(2))


def test_requests_that_make_no_sense_are_refused() -> None:
    real = ScoreModel(gaussian(VP(), torch.zeros(2), torch.tensor(1.0)), (2,))
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"are for discrete data alone; got 2 and None"):
        real.log_prob(x, draws=2)
    with pytest.raises(ValueError, match=r"are for discrete data alone; got 1 and Uniform"):
        real.log_prob(x, dequantisation=Uniform())
    with pytest.raises(ValueError, match=r"only discrete data have cells"):
        real.elbo(x, centred=True)
    with pytest.raises(ValueError, match=r"bits/dim have no meaning"):
        _ = real.elbo(x, draws=8).bits_per_dim
    assert Cells(x, 2, torch.tensor(1.0)).levels == 2
