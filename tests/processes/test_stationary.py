"""Stationary laws in closed form, and their samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from scorefield import ItoSDE, Noise, StationaryPrior

LAWS = {
    "Ornstein-Uhlenbeck": (lambda x: -2 * x, lambda x: 1.5 + 0 * x, (-6.0, 6.0), stats.norm(0, 1.5 / 2)),
    "Jacobi": (lambda x: 1.2 - 2 * x, lambda x: (x * (1 - x)).sqrt(), (1e-9, 1 - 1e-9), stats.beta(2.4, 1.6)),
    "Cox-Ingersoll-Ross": (lambda x: 2 * (1 - x), lambda x: x.sqrt(), (1e-9, 20.0), stats.gamma(4, scale=1 / 4)),
}
every_law = pytest.mark.parametrize(("f", "g", "domain", "law"), LAWS.values(), ids=LAWS)


@every_law
def test_the_density_is_the_closed_form(f, g, domain, law):
    """Kills a drift of 1 instead of 2, a missing 1 / g^2, and a density without its normaliser."""
    x = torch.as_tensor(law.ppf([0.01, 0.1, 0.5, 0.9, 0.99]))
    expected = law.logpdf(x.numpy())
    prior = StationaryPrior(f, g, domain)
    assert prior.log_prob(x[:, None]).tolist() == pytest.approx(expected.tolist(), abs=5e-3)
    pairs = torch.stack((x, x.flip(0)), 1)
    assert prior.log_prob(pairs).tolist() == pytest.approx((expected + expected[::-1]).tolist(), abs=1e-2)


@every_law
def test_samples_have_the_law(f, g, domain, law):
    """Kolmogorov-Smirnov at a false-positive rate of 1e-6; a scale off by 5 % is caught."""
    n = 50_000
    x = StationaryPrior(f, g, domain).sample(torch.empty(n, 2), Noise.per_sample(range(n)))
    assert stats.kstest(x.flatten().double().numpy(), law.cdf).pvalue > 1e-6
    assert stats.kstest(1.05 * x.flatten().double().numpy(), law.cdf).pvalue < 1e-6


def test_a_process_comes_to_rest_in_it():
    """Forward paths of a double well, from far off: their law at T is the prior's, and steps stay in the domain."""
    prior = StationaryPrior(lambda x: x - x**3, lambda x: math.sqrt(2) + 0 * x, (-4.0, 4.0))
    sde = ItoSDE(lambda x, t: x - x**3, lambda x, t: math.sqrt(2) + 0 * x, prior, (-4.0, 4.0), T=5.0)
    n = 4000
    path = sde.simulate(torch.full((n, 1), 1.5), [5.0 * k / 500 for k in range(501)], noise=Noise.per_sample(range(n)))
    exact = sde.prior.sample(torch.empty(n, 1), Noise.per_sample(range(n, 2 * n)))
    assert stats.ks_2samp(path[-1, :, 0].numpy(), exact[:, 0].numpy()).pvalue > 1e-6
    assert float(path.abs().max()) <= 4


def test_states_beyond_the_domain_are_reflected():
    sde = ItoSDE(lambda x, t: x, lambda x, t: x, domain=(0.0, 1.0))
    x = torch.tensor([[-0.25, 0.5, 1.25, -7.0, 9.0]])
    assert sde.confine(x).tolist() == [[0.25, 0.5, 0.75, 0.0, 0.0]]


def test_outside_there_is_nothing():
    prior = StationaryPrior(lambda x: 0 * x, lambda x: 1 + 0 * x, (0.0, 2.0))
    assert prior.log_prob(torch.tensor([[1.0], [2.5], [-0.1]])).tolist() == [
        pytest.approx(-math.log(2)),
        -math.inf,
        -math.inf,
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: StationaryPrior(torch.sin, torch.cos, (1.0, 0.0)), "finite domain"),
        (lambda: StationaryPrior(torch.sin, torch.cos, (0.0, math.inf)), "finite domain"),
        (
            lambda: StationaryPrior(lambda x: -x, lambda x: x.clamp_min(0), (-1.0, 1.0)).log_prob(torch.ones(1)),
            "inside of the domain",
        ),
        (lambda: ItoSDE(torch.add, torch.add, domain=(1.0, 0.0)), "low < high"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
