"""Noise scales from data: distances in closed form, the published configurations, what must not change them."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch

from scorefield import VE, grids
from scorefield.data import Affine, ArrayDataset, NoiseScales, digits, noise_scales
from scorefield.data.noise_scales import largest_ratio, scale_overlap
from scorefield.solvers import AnnealedLangevin


def of(x, **options):
    return noise_scales(ArrayDataset(x), Affine(), **options)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def circle(n, radius=1.0):
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return radius * torch.stack((angle.cos(), angle.sin()), 1)


@pytest.mark.parametrize("n", [2, 10, 11, 1400])
def test_on_a_circle_distances_are_chords(n):
    """Mutant: the last block of rows is left out."""
    scales = of(circle(n, 3.0))
    assert scales.sigma_max == pytest.approx(6 * math.sin(math.pi * (n // 2) / n), rel=1e-12)
    chord = 6 * math.sin(math.pi / n)  # to the neighbour
    assert scales.sigma_min == pytest.approx(0.1 * chord / math.sqrt(2), rel=1e-7)


def test_distances_are_those_of_brute_force_whatever_the_blocks():
    """Mutants: sqrt(d) left out; the mean in the place of the median; the row itself as its neighbour."""
    x = normal(1100, 3, 2, 2)
    scales = of(x)
    apart = (x.flatten(1)[:, None] - x.flatten(1)).norm(dim=2)
    assert scales.sigma_max == pytest.approx(float(apart.max()), rel=1e-12)
    apart.fill_diagonal_(math.inf)
    assert scales.sigma_min == pytest.approx(0.1 * float(apart.amin(1).median()) / math.sqrt(12), rel=1e-7)


def test_samples_that_are_repeated_change_nothing():
    x = normal(300, 4)
    once, twice = of(x), of(torch.cat((x, x, x)))
    assert (twice.sigma_min, twice.sigma_max, twice.count) == pytest.approx(
        (once.sigma_min, once.sigma_max, once.count), rel=1e-6
    )


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 700.0])
def test_scaling_the_data_scales_the_noise_and_moving_or_turning_them_changes_nothing(scale, shift):
    x = normal(200, 6)
    turn, _ = torch.linalg.qr(normal(6, 6, seed=1))
    plain, moved = of(x), of(scale * (x @ turn + shift))
    assert moved.sigma_min == pytest.approx(scale * plain.sigma_min, rel=1e-6)
    assert moved.sigma_max == pytest.approx(scale * plain.sigma_max, rel=1e-9)
    assert moved.count == plain.count


def test_scales_are_those_of_the_space_of_the_model():
    x = normal(200, 6)
    plain, inner = of(x), noise_scales(ArrayDataset(x), Affine(shift=2.0, scale=4.0))
    assert (inner.sigma_min, inner.sigma_max) == pytest.approx((plain.sigma_min / 4, plain.sigma_max / 4), rel=1e-7)


def test_a_sample_of_the_data_bounds_the_largest_distance_from_below():
    x = normal(3000, 2)
    whole, part = of(x, samples=3000), of(x, samples=500)
    assert 0.6 * whole.sigma_max < part.sigma_max < whole.sigma_max
    assert "between 500 of 3000 samples" in str(part) and "between 3000 samples" in str(whole)


# discrete data


def test_discrete_data_are_not_resolved_below_their_steps():
    data = digits()
    scales = noise_scales(data, Affine.of_levels(17))
    step = 2 / 17
    assert scales.sigma_min == pytest.approx(step / math.sqrt(12), rel=1e-6)
    as_numbers = of(data.x.double() * step)
    assert as_numbers.sigma_min < scales.sigma_min  # a tenth of the distance to the nearest one
    assert as_numbers.sigma_max == pytest.approx(scales.sigma_max, rel=1e-6)
    # of finer steps the distances decide
    fine = ArrayDataset((normal(200, 3).clamp(-4, 4) * 8000 + 32768).to(torch.int32), levels=65536)
    scales = noise_scales(fine, Affine.of_levels(65536))
    assert scales.sigma_min == pytest.approx(of(fine.x / 32768.0).sigma_min, rel=1e-4)


def test_pictures_get_about_the_scales_that_were_published_for_pictures():
    # NCSN and NCSNv2 take 0.01 for images in [0, 1], and 50 to 0.01 for CIFAR-10's: here 32 x 32 cuts of photographs
    from sklearn.datasets import load_sample_images

    cuts = [
        torch.tensor(image[y : y + 32, x : x + 32]).permute(2, 0, 1)
        for image in load_sample_images().images
        for y in range(0, 384, 32)
        for x in range(0, 608, 32)
    ]
    scales = noise_scales(ArrayDataset(torch.stack(cuts), levels=256), Affine(scale=256.0, levels=256))
    assert 0.003 < scales.sigma_min < 0.03
    assert 40 < scales.sigma_max < 60
    assert 180 < scales.count < 260


# the number of scales

PUBLISHED = [  # Song & Ermon 2020, table of hyperparameters: sigma_1, levels, dimensions; sigma_L = 0.01
    (50, 232, 3 * 32**2),
    (90, 500, 3 * 64**2),
    (140, 788, 3 * 96**2),
    (190, 1086, 3 * 128**2),
    (348, 2311, 3 * 256**2),
]


@pytest.mark.parametrize(("first", "levels", "d"), PUBLISHED)
def test_the_published_configurations_overlap_a_little_more_than_the_rule_asks(first, levels, d):
    """Mutants: sqrt(d) for sqrt(2 d); - 3 for - 3 ratio."""
    ratio = (first / 0.01) ** (1 / (levels - 1))
    assert scale_overlap(ratio, d) == pytest.approx(0.567, abs=1e-3)
    assert 1 + math.log(first / 0.01) / math.log(largest_ratio(d, scale_overlap(ratio, d))) == pytest.approx(levels)
    assert 0.94 < math.log(first / 0.01) / math.log(largest_ratio(d)) / levels < 0.95


@pytest.mark.parametrize("ratio", [1.001, 1.05, 1.5])
def test_the_overlap_is_the_share_of_the_smaller_noise_in_the_reach_of_the_larger(ratio):
    """Mutant: + 3 for + 3 ratio."""
    d, small = 20, NormalDist(math.sqrt(20), math.sqrt(0.5))
    middle, reach = math.sqrt(d) * ratio, 3 * ratio * math.sqrt(0.5)
    assert scale_overlap(ratio, d) == pytest.approx(small.cdf(middle + reach) - small.cdf(middle - reach), abs=1e-12)


@pytest.mark.parametrize("d", [20, 64, 3072, 10**6])
@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.9])
def test_the_largest_ratio_solves_the_equation(d, overlap):
    ratio = largest_ratio(d, overlap)
    if scale_overlap(2.0, d) > overlap:
        assert ratio == 2
    else:
        assert scale_overlap(ratio, d) == pytest.approx(overlap, abs=1e-10)
        assert scale_overlap(ratio + 1e-4 * (ratio - 1), d) < overlap


@pytest.mark.parametrize("d", [1, 2, 4, 10])
def test_in_few_dimensions_the_ratio_is_two(d):
    assert largest_ratio(d) == 2
    scales = of(normal(100, d))
    assert scales.ratio <= 2 + 1e-12 and scales.sigma_max / scales.sigma_min > 2 ** (scales.count - 2)


@pytest.mark.parametrize(("d", "overlap"), [(3, 0.5), (64, 0.5), (200, 0.8)])
def test_the_count_is_the_smallest_that_overlaps_enough(d, overlap):
    scales = of(normal(50, d), overlap=overlap)
    span = scales.sigma_max / scales.sigma_min
    fewer = span ** (1 / (scales.count - 2))
    assert scale_overlap(scales.ratio, d) >= overlap
    assert scale_overlap(fewer, d) < overlap or fewer > 2


def test_the_scales_are_those_of_the_process_and_the_solver_that_they_are_for():
    scales = of(normal(200, 64))
    sde = VE(scales.sigma_min, scales.sigma_max)
    times = torch.tensor(grids.smld(sde, scales.count)[:-1], dtype=torch.float64)
    sigmas = sde.sigma(times)
    assert float(sigmas[0]) == pytest.approx(scales.sigma_max)
    ratios = sigmas[:-2] / sigmas[1:-1]
    torch.testing.assert_close(ratios, torch.full_like(ratios, scales.ratio))


def test_the_published_scales_lead_to_the_published_step_size():
    scales = NoiseScales(0.01, 50.0, 232, "published")
    corrector = AnnealedLangevin.ncsnv2(scales.ratio, 5).corrector
    r = 2 * corrector.snr**2
    assert r * scales.sigma_min**2 == pytest.approx(6.2e-6, rel=0.01)
    q = 2 / (2 - r)
    assert (1 - r) ** 10 * (scales.ratio**2 - q) + q == pytest.approx(1.056, abs=1e-3)  # technique 4's ratio


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(1, 2), {}, "two samples that differ; got 1 that are all equal"),
        (torch.full((9, 2), 0.1), {}, "two samples that differ; got 9 that are all equal"),
        (normal(9, 2), {"overlap": 0.0}, "overlap"),
        (normal(9, 2), {"overlap": 1.0}, "overlap"),
        (normal(9, 2), {"samples": 1}, "samples must be at least 2; got 1"),
    ],
)
def test_what_has_no_noise_scales_is_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        of(x, **options)


def test_values_that_are_no_numbers_are_refused():
    class Broken:
        event_shape, classes, levels = (2,), 0, None

        def __len__(self):
            return 3

        def rows(self, index):
            from scorefield.data import Rows

            return Rows(torch.tensor([[0.0, 1.0], [math.nan, 1.0], [2.0, math.inf]])[index], {})

    with pytest.raises(ValueError, match="2 values of the data are NaN or infinite"):
        noise_scales(Broken(), Affine())
