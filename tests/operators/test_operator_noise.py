"""Likelihoods against scipy's, and the moments of simulated noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scorefield import Noise
from scorefield.operators import Gaussian, MeasurementNoise, Noiseless, Poisson


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def assert_equal_but_for_a_constant(found: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy() - found[0].item(), expected - expected[0], rtol=1e-10, atol=1e-10)


def test_the_gaussian_likelihood_is_scipys() -> None:
    y, clean = normal(1, 2, 3), normal(5, 2, 3, seed=1)
    expected = stats.norm.logpdf(y, clean, 0.3).sum((1, 2))
    assert_equal_but_for_a_constant(Gaussian(0.3).log_likelihood(y, clean), expected)


def test_both_parts_of_a_complex_number_have_the_std() -> None:
    y, clean = (torch.view_as_complex(normal(rows, 4, 2, seed=rows)) for rows in (1, 5))
    expected = stats.norm.logpdf(y.real, clean.real, 0.3) + stats.norm.logpdf(y.imag, clean.imag, 0.3)
    assert_equal_but_for_a_constant(Gaussian(0.3).log_likelihood(y, clean), expected.sum(1))


def test_the_likelihood_of_counts_is_scipys() -> None:
    noise = Poisson(gain=0.5, background=2.0)
    counts = torch.tensor([[0.0, 3.0, 11.0]], dtype=torch.float64)
    clean = normal(5, 3, seed=1).abs()
    expected = stats.poisson.logpmf(counts, (clean + 2) / 0.5).sum(1)
    assert_equal_but_for_a_constant(noise.log_likelihood(0.5 * counts - 2, clean), expected)


def test_the_likelihood_of_counts_goes_on_where_the_rate_is_not_positive() -> None:
    noise, y = Poisson(gain=0.5), torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    clean = torch.linspace(-1, 0.01, 1001, dtype=torch.float64)
    values = torch.stack([noise.log_likelihood(y, c.expand(2, 1)) for c in clean])
    slopes = values.diff(dim=0)
    assert bool((slopes[:, 0] > 0).all())  # two counts: uphill all the way
    assert bool((slopes[:, 1] < 0).all())  # no counts: the fewer the better
    assert bool((slopes.diff(dim=0) < 1e-9).all())  # concave
    assert float(noise.log_likelihood(y[1:], torch.zeros(1, 1, dtype=torch.float64))) == 0  # 0 log 0 - 0


@pytest.mark.parametrize(
    ("noise", "clean", "variance"),
    [
        (Gaussian(0.7), -1.5, 0.49),
        (Poisson(0.25), 0.5, 0.25 * 0.5),
        (Poisson(0.1, background=3.0), 1.7, 0.1 * 4.7),
        (Noiseless(), 1.2, 0.0),
    ],
    ids=str,
)
def test_simulated_noise_has_its_mean_and_variance(noise: MeasurementNoise, clean: float, variance: float) -> None:
    # within 4.9 standard errors, false alarm 1e-6 each (mutants: std x 1.02, gain^2 for gain)
    n = 40_000
    y = noise.sample(torch.full((1, n), clean, dtype=torch.float64), noise=Noise.per_sample([3]))[0]
    if not variance:
        assert bool((y == clean).all())
        return
    assert abs(float(y.mean()) - clean) < 4.9 * math.sqrt(variance / n)
    fourth = float(((y - clean) ** 4).mean())
    assert abs(float(((y - clean) ** 2).mean()) - variance) < 4.9 * math.sqrt((fourth - variance**2) / n)
    if isinstance(noise, Poisson):
        counts = (y + noise.background) / noise.gain
        torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-9)


def test_simulated_complex_noise_has_two_independent_parts() -> None:
    n, clean = 40_000, torch.full((1, 40_000), 1 - 2j, dtype=torch.complex128)
    error = (Gaussian(0.7).sample(clean, noise=Noise.per_sample([3])) - clean)[0] / 0.7
    for part in (error.real, error.imag):
        assert abs(float(part.mean())) < 4.9 / math.sqrt(n)
        assert abs(float(part.square().mean()) - 1) < 4.9 * math.sqrt(2 / n)
    assert abs(float((error.real * error.imag).mean())) < 4.9 / math.sqrt(n)


@pytest.mark.parametrize("noise", [Gaussian(0.5), Poisson(0.5, background=1.0)], ids=str)
def test_simulated_noise_depends_on_its_own_seed_only(noise: MeasurementNoise) -> None:
    clean = normal(4, 6).abs()
    y = noise.sample(clean, noise=Noise.per_sample([5, 6, 7, 8]))
    alone = noise.sample(clean[2:3], noise=Noise.per_sample([7]))
    assert torch.equal(y[2:3], alone)


@pytest.mark.parametrize(
    "noise", [Gaussian(0.5), Poisson(0.5), Poisson(0.25, background=torch.tensor([1.0, 2.0, 0.5]))], ids=range(3)
)
def test_rescaled_noise_is_the_noise_of_rescaled_measurements(noise: MeasurementNoise) -> None:
    shift, scale = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64), 3.0
    other = noise.rescaled(shift, scale)
    y, clean = normal(1, 3).abs(), normal(6, 3, seed=2).abs()
    found = other.log_likelihood((y - shift) / scale, (clean - shift) / scale)
    assert_equal_but_for_a_constant(found, noise.log_likelihood(y, clean).numpy())
    torch.testing.assert_close(
        torch.as_tensor(other.variance((y - shift) / scale)) * scale**2, torch.as_tensor(noise.variance(y))
    )
    drawn, again = (
        law.sample(c, noise=Noise.per_sample([1]))
        for law, c in ((noise, clean[:1]), (other, (clean[:1] - shift) / scale))
    )
    torch.testing.assert_close((drawn - shift) / scale, again)


def test_the_variance_of_counts_is_estimated_from_them() -> None:
    y = torch.tensor([[0.0, 0.1, 0.7]], dtype=torch.float64)
    assert Poisson(0.1).variance(y)[0].tolist() == pytest.approx([0.01, 0.01, 0.07])
    assert Gaussian(0.3).variance(y) == pytest.approx(0.09) and Noiseless().variance(y) == 0


def test_noise_that_makes_no_sense_is_refused() -> None:
    one = torch.ones(1, 1)
    for call, words in (
        (lambda: Gaussian(0.0), r"use Noiseless\(\)"),
        (lambda: Gaussian(math.nan), "positive"),
        (lambda: Poisson(-1.0), "positive"),
        (lambda: Noiseless().log_likelihood(one, one), "no likelihood"),
        (lambda: Poisson(1.0).sample(-one, noise=Noise.per_sample([0])), "at least 0"),
        (lambda: Poisson(1.0).log_likelihood(one, one * 1j), "real numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_rescaling_nothing_gives_nothing() -> None:
    assert Noiseless().rescaled(torch.zeros(1), 2.0) == Noiseless()
    assert Gaussian(0.5).rescaled(torch.ones(1), 2.0) == Gaussian(0.25)
