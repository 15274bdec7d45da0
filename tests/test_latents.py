"""Spherical interpolation, in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from scorefield import slerp


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def angle(a, b):
    a, b = a.double().flatten(1), b.double().flatten(1)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def planes(theta, n=40, shape=(3, 4)):
    """Pairs of vectors of different norms, theta apart, in random planes."""
    d = math.prod(shape)
    e = torch.linalg.qr(normal(n, d, 2))[0]
    a, b = e[..., 0], math.cos(theta) * e[..., 0] + math.sin(theta) * e[..., 1]
    sizes = 1 + torch.arange(n, dtype=torch.float64)
    return (sizes[:, None] * a).reshape(n, *shape), (3 * b).reshape(n, *shape)


@pytest.mark.parametrize("theta", [1e-7, 0.3, math.pi / 2, 3.0, math.pi - 1e-7])
@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_angles_and_norms_are_linear_in_the_weight_and_the_path_stays_in_the_plane(theta, weight):
    """Mutants: the chord, scaled to the norm; sin(w theta) for both; the norm of a alone."""
    a, b = planes(theta)
    x = slerp(a, b, weight)
    ones = torch.ones(len(a), dtype=torch.float64)
    torch.testing.assert_close(angle(a, x), weight * theta * ones, rtol=1e-7, atol=1e-13)
    torch.testing.assert_close(angle(x, b), (1 - weight) * theta * ones, rtol=1e-7, atol=1e-13)
    sizes = [v.flatten(1).norm(dim=1) for v in (a, b, x)]
    torch.testing.assert_close(sizes[2], (1 - weight) * sizes[0] + weight * sizes[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (16, 3)])
def test_the_ends_are_exact(shape, dtype):
    a, b = normal(5, *shape).to(dtype), normal(5, *shape, seed=1).to(dtype)
    for weight, end in ((0.0, a), (1.0, b)):
        x = slerp(a, b, weight)
        assert x.dtype == dtype and torch.equal(x, end)


def test_perpendicular_vectors_of_one_norm_keep_it_and_their_middle_is_their_sum():
    a, b = torch.eye(4, dtype=torch.float64)[:2, None]
    torch.testing.assert_close(slerp(a, b, 0.5), (a + b) / math.sqrt(2))
    torch.testing.assert_close(slerp(a, b, 1 / 3), math.cos(math.pi / 6) * a + math.sin(math.pi / 6) * b)


def test_each_sample_has_its_weight_and_is_its_own():
    """Mutant: norms and angles over the whole batch."""
    a, b, w = normal(6, 2, 3), normal(6, 2, 3, seed=1), torch.linspace(0, 1, 6, dtype=torch.float64)
    whole = slerp(a, b, w)
    for k in range(6):
        torch.testing.assert_close(slerp(a[k : k + 1], b[k : k + 1], float(w[k])), whole[k : k + 1])


def test_parallel_vectors_change_their_norm_alone():
    a = normal(7, 5)
    torch.testing.assert_close(slerp(a, 3 * a, 0.25), 1.5 * a)
    torch.testing.assert_close(slerp(a.float(), (3 * a).float(), 0.25), (1.5 * a).float())


def test_opposite_vectors_are_joined_by_a_half_circle():
    """Mutant: e = 0 where there is no part across, the chord through the origin."""
    a = normal(7, 5)
    for b in (-a, (-2 * a.float()).double()):
        sizes = [v.norm(dim=1) for v in (a, b)]
        for weight in (0.1, 0.5, 0.8):
            x = slerp(a, b, weight)
            torch.testing.assert_close(x.norm(dim=1), (1 - weight) * sizes[0] + weight * sizes[1])
            torch.testing.assert_close(angle(a, x), torch.full((7,), weight * math.pi, dtype=torch.float64))


def test_a_vector_of_norm_zero_is_in_the_direction_of_the_other():
    a, zero = normal(3, 4), torch.zeros(3, 4, dtype=torch.float64)
    torch.testing.assert_close(slerp(zero, a, 0.25), 0.25 * a)
    torch.testing.assert_close(slerp(a, zero, 0.25), 0.75 * a)
    assert torch.equal(slerp(zero, zero, 0.5), zero)


def test_normal_vectors_stay_where_normal_vectors_are():
    # |x| of 1000 pairs in 400 dimensions: the arc keeps the mean of |x|^2 / d at 1 within 2 %, the chord has 1/2
    a, b = normal(1000, 400), normal(1000, 400, seed=1)
    assert float(slerp(a, b, 0.5).square().mean()) == pytest.approx(1, abs=0.02)
    assert float((0.5 * (a + b)).square().mean()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("a", "b", "weight", "message"),
    [
        (torch.ones(2, 1), torch.ones(2, 1), 0.5, "at least 2 components"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3), r"one for each; got shapes .* and \(3,\)"),
        (torch.ones(2, 3), torch.ones(2, 3), 1.5, r"must lie in \[0, 1\]; got 1.5"),
        (torch.ones(2, 3), torch.ones(2, 3), math.nan, r"must lie in \[0, 1\]; got nan"),
    ],
)
def test_what_has_no_path_is_refused(a, b, weight, message):
    with pytest.raises(ValueError, match=message):
        slerp(a, b, weight)


@pytest.mark.usefixtures("unchecked")
def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"same shape.*got shapes \(2, 3\), \(2, 4\)"):
        slerp(torch.ones(2, 3), torch.ones(2, 4), 0.5)
