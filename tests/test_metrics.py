"""Distances in closed form."""

import math

import pytest
import torch
from scipy import stats

from scorefield.metrics import sliced_wasserstein


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    """E (v . m)^2 = |m|^2 / d over directions v. Kills directions that are not of length 1."""
    x = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.arange(6.0).reshape(2, 3)
    got = sliced_wasserstein(x, x.flip(0) + shift, projections=20_000)
    assert got == pytest.approx(float(shift.norm()) / math.sqrt(6), rel=0.02)
    assert sliced_wasserstein(x, x.flip(0)) < 1e-12


def test_sliced_wasserstein_in_one_dimension_is_the_distance_itself():
    """Between normal laws |m|^2 + (s - 1)^2 under the root, from their quantiles."""
    q = torch.from_numpy(stats.norm.ppf((torch.arange(20_000).double().numpy() + 0.5) / 20_000))[:, None]
    got = sliced_wasserstein(q, (2.0 * q + 0.5).flip(0), projections=3)
    assert got == pytest.approx(math.sqrt(1 + 0.25), rel=1e-3)


@pytest.mark.usefixtures("unchecked")
def test_sets_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        sliced_wasserstein(torch.zeros(2, 1), torch.zeros(3, 1))
