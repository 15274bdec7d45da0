"""Coverage tests tell right posteriors from wrong ones.

Each p-value of a right one is uniform; it is taken to fail below 1e-6.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import Noise
from scorefield.metrics import coverage, psnr, rank_levels, tarp_levels, uniformity

N, K, D, SIGMA = 2000, 9, 3, 0.5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def posteriors(width: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Truths from N(0, I), measured with noise, and samples of their posteriors, made wider or shifted."""
    truth = normal(N, D, seed=1)
    y = truth + SIGMA * normal(N, D, seed=2)
    gain = 1 / (1 + SIGMA**2)
    std = width * math.sqrt(1 - gain)
    return gain * y[:, None] + shift + std * normal(N, K, D, seed=3), truth


def test_right_posteriors_pass_both_tests():
    samples, truth = posteriors()
    assert uniformity(tarp_levels(samples, truth)) > 1e-6
    assert uniformity(rank_levels(samples[..., 0], truth[:, 0])) > 1e-6
    levels = tarp_levels(samples, truth)
    alphas = torch.tensor([0.1, 0.5, 0.9])
    assert bool(((coverage(levels, alphas) - alphas).abs() < 5 * (alphas * (1 - alphas) / N).sqrt()).all())


@pytest.mark.parametrize(("width", "shift"), [(0.7, 0.0), (1.4, 0.0), (1.0, 0.4)], ids=["narrow", "wide", "shifted"])
def test_wrong_posteriors_fail(width, shift):
    samples, truth = posteriors(width, shift)
    assert uniformity(rank_levels(samples[..., 0], truth[:, 0])) < 1e-6
    assert uniformity(tarp_levels(samples, truth)) < 1e-6


def test_samples_of_the_prior_pass_as_well():
    """They are calibrated, though they know nothing: coverage says nothing of sharpness."""
    truth, samples = normal(N, D, seed=1), normal(N, K, D, seed=3)
    assert uniformity(rank_levels(samples[..., 0], truth[:, 0])) > 1e-6
    assert uniformity(tarp_levels(samples, truth)) > 1e-6


def test_ties_are_broken_evenly():
    assert uniformity(rank_levels(torch.zeros(N, K), torch.zeros(N))) > 1e-6


def test_psnr_of_a_known_error():
    x = torch.zeros(2, 1, 4, 4)
    torch.testing.assert_close(
        psnr(x + 0.1, x, peak=2.0), torch.full((2,), 20 * math.log10(20)).double(), rtol=1e-6, atol=1e-6
    )


def test_bad_shapes():
    with pytest.raises(ValueError, match="k samples for each of n >= 2 truths"):
        tarp_levels(torch.zeros(1, 3, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="peak"):
        psnr(torch.zeros(1, 2), torch.zeros(1, 2), peak=0.0)


@pytest.mark.usefixtures("unchecked")
def test_psnr_of_integers_and_of_other_shapes():
    """Differences of 8-bit integers wrap around, and shapes that broadcast compare what does not belong together."""
    x, y = (torch.full((1, 1, 4, 4), v, dtype=torch.uint8) for v in (10, 12))
    assert float(psnr(x, y, peak=255)) == pytest.approx(20 * math.log10(255 / 2))
    with pytest.raises(ValueError, match="of one shape"):
        psnr(x, y.expand(1, 3, 4, 4), peak=1.0)
