"""Transforms: exact inverses, true log-determinants, and integers that survive their dequantisation."""

from __future__ import annotations

import math

import pytest
import torch

from scorefield import Noise
from scorefield.data import Affine, ArrayDataset
from scorefield.data.transforms import transformed_std

EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def skewed(n, event_shape):
    """Data whose mean and scale differ along the first axis of the event."""
    x = normal(n, *event_shape)
    if event_shape:
        k = torch.arange(event_shape[0]).double().reshape(-1, *(1,) * (len(event_shape) - 1))
        return (k + 0.5) * x + 10 * k
    return 3 * x - 7


@pytest.mark.parametrize("event_shape", EVENTS)
@pytest.mark.parametrize("per_feature", [True, False])
def test_standardised_data_have_mean_0_and_standard_deviation_1(event_shape, per_feature):
    x = skewed(50, event_shape)
    z = Affine.standardising(x, per_feature).forward(x)
    axes = [0, *range(2, z.ndim)] if per_feature and event_shape else list(range(z.ndim))
    one = torch.ones_like(z.mean(axes))
    torch.testing.assert_close(z.mean(axes), 0 * one, rtol=0, atol=1e-12)
    torch.testing.assert_close(z.std(axes, correction=0), one, rtol=1e-12, atol=0)


@pytest.mark.parametrize("event_shape", EVENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_undoes_the_transform_in_both_directions(event_shape, dtype):
    transform = Affine.standardising(skewed(50, event_shape))
    x = skewed(5, event_shape).to(dtype)
    near = {"rtol": 30 * torch.finfo(dtype).eps, "atol": 300 * torch.finfo(dtype).eps}
    z = transform.forward(x)
    assert z.dtype == dtype
    torch.testing.assert_close(transform.inverse(z), x, **near)
    torch.testing.assert_close(transform.forward(transform.inverse(x)), x, **near)


@pytest.mark.parametrize(
    ("transform", "event_shape"),
    [
        (Affine(), (3,)),
        (Affine(1.0, 2.5), ()),
        (Affine((0.0, 1.0), (0.5, 3.0)), (2,)),
        (Affine(((0.0,), (1.0,)), ((0.5,), (3.0,))), (2, 3)),
        (Affine(0.0, (((2.0,),), ((3.0,),), ((0.1,),))), (3, 2, 2)),
        (Affine(0.0, 4.0), (2, 2)),
        (Affine.of_levels(17), (1, 2, 2)),
    ],
)
def test_the_log_determinant_is_that_of_the_jacobian(transform, event_shape):
    x = normal(2, *event_shape)
    u = torch.full_like(x, 0.3) if transform.levels else None
    jacobian = torch.autograd.functional.jacobian(lambda v: transform.forward(v, u).reshape(2, -1), x)
    for k in range(2):
        own = jacobian[k, :, k].reshape(x[0].numel(), x[0].numel())
        exact = float(torch.linalg.slogdet(own)[1])
        if transform.levels:  # the uniform numbers leave out a share of each cell
            low, high = (transform.forward(x * 0, torch.full_like(x, v)).flatten()[0] for v in (0.0, 1.0))
            exact += x[0].numel() * math.log(float(high - low) * transform.scale)
        assert float(transform.log_det(x)[k]) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("levels", [2, 3, 10, 16, 17, 100, 256, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_integers_come_back_from_any_dequantisation(levels, dtype):
    transform = Affine.of_levels(levels)
    x = torch.arange(levels).to(torch.uint8 if levels <= 256 else torch.int64)
    # the ends are the smallest and largest numbers that Noise.uniform draws
    ends = 2.0**-33, 1 - torch.finfo(torch.float32).eps / 2
    for u in (ends[0], 1e-6, 0.25, 0.5, 0.9, 1 - 1e-5, ends[1]):
        z = transform.forward(x, torch.full(x.shape, u, dtype=dtype))
        assert float(z.abs().max()) <= 1
        assert transform.inverse(z).tolist() == x.tolist(), u


def test_random_images_come_back_and_stay_uniform_within_their_cells():
    x = torch.arange(256, dtype=torch.uint8).repeat(400).reshape(-1, 1, 16, 16)
    u = Noise.per_sample(range(len(x))).uniform(torch.empty(x.shape))
    transform = Affine.of_levels(256)
    z = transform.forward(x, u)
    assert torch.equal(transform.inverse(z), x)
    torch.testing.assert_close((128 * z.double() + 128) % 1, u.double(), rtol=0, atol=2e-4)


def test_levels_go_to_the_interval_from_minus_1_to_1_and_beyond_it_are_clamped():
    transform = Affine.of_levels(5)
    ends = transform.forward(torch.tensor([0, 4]), torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert transform.inverse(torch.tensor([-9.0, 9.0])).tolist() == [0, 4]


@pytest.mark.parametrize(("levels", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int32)])
def test_fitted_integers_keep_a_type_that_holds_their_levels(levels, dtype):
    data = ArrayDataset(torch.tensor([[0], [levels - 1]]), levels=levels)
    transform = Affine.fitted(data)
    assert transform == Affine.of_levels(levels)
    assert transform.inverse(torch.tensor([0.999])).tolist() == [levels - 1]
    assert transform.inverse(torch.tensor([0.999])).dtype == dtype


def test_fitted_real_numbers_are_standardised():
    x = skewed(20, (3, 2, 2))
    assert Affine.fitted(ArrayDataset(x)) == Affine.standardising(x)
    steps = torch.arange(6).reshape(3, 2)
    assert Affine().forward(steps).tolist() == steps.tolist() and Affine().forward(steps).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(0.0, 0.0), "scale .* must be positive"),
        (lambda: Affine(0.0, (1.0, -1.0)), "got -1"),
        (lambda: Affine(0.0, math.nan), "positive"),
        (lambda: Affine(0.0, math.inf), "positive"),
        (lambda: Affine(math.nan, 1.0), "shift"),
        (lambda: Affine(0.0, 1.0, levels=0), "levels"),
        (lambda: Affine(0.0, 1.0, levels=-3), "levels"),
        (lambda: Affine.fitted(ArrayDataset(torch.ones(4, 2))), "constant"),
        (lambda: Affine.fitted(ArrayDataset(torch.randn(1, 2, generator=torch.Generator()))), "constant"),
        (lambda: Affine.of_levels(4).forward(torch.zeros(2, 2, dtype=torch.uint8)), "need uniform numbers"),
    ],
)
def test_impossible_transforms_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_standard_deviation_of_transformed_integers_counts_the_noise_of_dequantisation():
    data = ArrayDataset(torch.tensor([[0], [1]] * 500), levels=2)
    transform = Affine.fitted(data)  # (k + u) goes to (k + u) - 1: variances 1/4 and 1/12
    assert transformed_std(data, transform) == pytest.approx(math.sqrt(1 / 4 + 1 / 12), rel=1e-3)


def test_fitted_numbers_have_the_same_bits_for_any_number_of_threads():
    """They are in the fingerprint of a run, which another number of threads may go on with. Kills torch's sums."""
    data = ArrayDataset(1000 * torch.rand(300_000, 3, generator=torch.Generator().manual_seed(0)) ** 3)
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append((Affine.fitted(data), transformed_std(data, Affine())))
    finally:
        torch.set_num_threads(1)
    assert found[0] == found[1] == found[2]
