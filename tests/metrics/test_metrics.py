"""Distances between samples: closed forms, other projects' numbers, and sets that are alike, near and far."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scorefield.metrics import (
    FeatureStats,
    Pixels,
    c2st,
    class_shares,
    density_coverage,
    energy_distance,
    extract,
    frechet_distance,
    inception_score,
    kid,
    memorisation,
    mmd,
    nearest,
    precision_recall,
    psnr,
    rank_levels,
    sliced_wasserstein,
    tarp_levels,
)

pytestmark = pytest.mark.usefixtures("unchecked")


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# sliced Wasserstein


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection():
    """E (v . m)^2 = |m|^2 / d over directions v. Kills directions that are not of length 1."""
    x = normal(50, 2, 3).float()
    shift = torch.arange(6.0).reshape(2, 3)
    got = sliced_wasserstein(x, x.flip(0) + shift, projections=20_000)
    assert got == pytest.approx(float(shift.norm()) / math.sqrt(6), rel=0.02)
    assert sliced_wasserstein(x, x.flip(0)) < 1e-12


@pytest.mark.parametrize(("power", "wanted"), [(2, math.sqrt(1 + 0.25)), (1, None)])
def test_sliced_wasserstein_in_one_dimension_is_the_distance_itself(power, wanted):
    """Between normal laws |m|^2 + (s - 1)^2 under the root, from their quantiles; W1 as SciPy's."""
    q = torch.from_numpy(stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))[:, None]
    other = (2.0 * q + 0.5).flip(0)
    got = sliced_wasserstein(q, other, power=power, projections=3)
    wanted = wanted or stats.wasserstein_distance(q[:, 0].numpy(), other[:, 0].numpy())
    assert got == pytest.approx(wanted, rel=1e-3 if power == 2 else 1e-10)


# against torchmetrics, with a module of features that are the pixels


class Flat(torch.nn.Module):
    num_features = 12

    def forward(self, x):
        return x.flatten(1).double()


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
@pytest.mark.filterwarnings("ignore:std")  # of their single split
def test_the_distances_of_torchmetrics():
    """Their Inception score draws a permutation, which one split does not see; so do subsets of all samples."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = normal(100, 3, 2, 2), 1.5 * normal(100, 3, 2, 2, seed=1) + 0.3
    theirs = {}
    with torch.random.fork_rng():
        for name, metric in {
            "fid": FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 2, 2)).set_dtype(torch.float64),
            "kid": KernelInceptionDistance(feature=Flat(), subsets=2, subset_size=100),
            "is": InceptionScore(feature=Flat(), splits=1),
        }.items():
            if name == "is":
                metric.update(x)
                theirs[name] = float(metric.compute()[0])
            else:
                metric.update(x, real=True)
                metric.update(y, real=False)
                found = metric.compute()
                theirs[name] = float(found if name == "fid" else found[0])
    x, y = x.flatten(1), y.flatten(1)
    assert frechet_distance(FeatureStats.of(x), FeatureStats.of(y)) == pytest.approx(theirs["fid"], rel=1e-6)
    ours = kid(x, y, subsets=2, subset_size=100)
    assert ours.value == pytest.approx(theirs["kid"], rel=1e-6) and ours.spread < 1e-12
    assert inception_score(x, splits=1).value == pytest.approx(theirs["is"], rel=1e-6)


# kernels and energy


def test_the_kernel_distance_is_unbiased():
    """Zero on average over sets of one law, of 10 samples each: within 4.9 standard errors. Kills a kept diagonal."""
    values = torch.tensor(
        [kid(normal(10, 3, seed=2 * k), normal(10, 3, seed=2 * k + 1), subsets=1).value for k in range(400)]
    )
    assert abs(float(values.mean())) < 4.9 * float(values.std()) / 20
    values = torch.tensor([mmd(normal(10, 3, seed=2 * k), normal(12, 3, seed=2 * k + 1)) for k in range(400)])
    assert abs(float(values.mean())) < 4.9 * float(values.std()) / 20


def test_the_spread_of_halves_is_the_standard_error():
    """Of laws that differ, over 60 draws of both sets. Kills subsets of all samples, whose spread is 0."""
    draws = [kid(normal(200, 3, seed=2 * k), 1.5 * normal(200, 3, seed=2 * k + 1) + 0.3, seed=k) for k in range(60)]
    values, spreads = (torch.tensor([getattr(draw, name) for draw in draws]) for name in ("value", "spread"))
    assert float(spreads.mean()) == pytest.approx(float(values.std()), rel=0.45)


def test_the_kernel_distance_of_constants_is_that_of_the_kernel():
    """(a . a / d + 1)^3 + (b . b / d + 1)^3 - 2 (a . b / d + 1)^3."""
    a, b = torch.tensor([1.0, 2.0]).expand(5, 2), torch.tensor([0.0, -1.0]).expand(7, 2)
    got = kid(a, b, subsets=3)
    assert got.value == pytest.approx((5 / 2 + 1) ** 3 + (1 / 2 + 1) ** 3 - 2 * (-2 / 2 + 1) ** 3, rel=1e-12)
    assert got.spread < 1e-12


def test_the_discrepancy_of_normal_laws_has_a_closed_form():
    """With bandwidth h and shift m in d dimensions: 2 (1 + 2/h^2)^(-d/2) (1 - exp(-|m|^2 / (2 (h^2 + 2))))."""
    d, h, shift = 2, 1.5, 2.0
    x, y = normal(1500, d), normal(1500, d, seed=1) + torch.tensor([shift, 0])
    wanted = 2 * (1 + 2 / h**2) ** (-d / 2) * (1 - math.exp(-(shift**2) / (2 * (h**2 + 2))))
    assert mmd(x, y, bandwidth=h) == pytest.approx(wanted, rel=0.05)
    assert mmd(x, y) > 0.1
    assert mmd(x, y) == pytest.approx(mmd(y, x), rel=0.05)
    with pytest.raises(ValueError, match="bandwidth"):
        mmd(torch.zeros(5, 2), torch.zeros(5, 2))


def test_the_energy_distance_is_that_of_scipy():
    x, y = normal(300, 1), 2 * normal(500, 1, seed=1) + 0.5
    assert energy_distance(x, y) == pytest.approx(stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()), rel=1e-9)
    assert energy_distance(x, x.flip(0)) < 1e-6


def test_sums_over_pairs_are_the_same_in_blocks(monkeypatch):
    x, y = normal(50, 4), normal(70, 4, seed=1)
    whole = energy_distance(x, y), mmd(x, y), nearest(x, y, 3), precision_recall(x, y), density_coverage(x, y)
    monkeypatch.setattr("scorefield.metrics.pairwise.BLOCK", 200)
    parts = energy_distance(x, y), mmd(x, y), nearest(x, y, 3), precision_recall(x, y), density_coverage(x, y)
    assert parts[0] == pytest.approx(whole[0]) and parts[1] == pytest.approx(whole[1])
    assert torch.equal(parts[2].place, whole[2].place) and parts[3:] == whole[3:]


# neighbours


def test_precision_and_recall_are_those_of_prdc(capsys):
    from prdc import compute_prdc

    x, y = normal(300, 5), 0.8 * normal(250, 5, seed=1) + 0.3
    for k in (1, 3, 5):
        theirs = compute_prdc(x.numpy(), y.numpy(), k)
        got = {**precision_recall(x, y, k)._asdict(), **density_coverage(x, y, k)._asdict()}
        assert got == pytest.approx(theirs, rel=1e-12)
    assert "Num real" in capsys.readouterr().out


@pytest.mark.parametrize("k", [1, 5])
def test_sets_of_one_law_have_the_expected_density_and_coverage(k):
    """Naeem et al., equations 5 and 6: 1 and 1 - 2^-k."""
    found = [density_coverage(normal(300, 4, seed=s), normal(300, 4, seed=s + 1000), k) for s in range(30)]
    assert torch.tensor([f.density for f in found]).mean() == pytest.approx(1, abs=0.05)
    assert torch.tensor([f.coverage for f in found]).mean() == pytest.approx(1 - 2**-k, abs=0.03)


def test_coverage_depends_on_the_numbers_of_both_sets():
    """1 - (n / (n + m))^k: 0.669 for n = 600, m = 150. Kills 1 - 2^-k, 0.97."""
    found = [density_coverage(normal(600, 4, seed=2 * s), normal(150, 4, seed=2 * s + 1)).coverage for s in range(10)]
    assert sum(found) / 10 == pytest.approx(1 - (600 / 750) ** 5, abs=0.03)


def test_half_of_the_modes_has_precision_without_recall():
    modes = normal(400, 3) * 0.1 + torch.tensor([[-5.0, 0, 0], [5.0, 0, 0]]).repeat(200, 1)
    got = precision_recall(modes, modes[::2] + 0.01)
    assert got.precision > 0.95 and got.recall == pytest.approx(0.5, abs=0.05)
    got = density_coverage(modes, modes[::2] + 0.01)
    assert got.coverage == pytest.approx(0.5, abs=0.05)


def test_nearest_neighbours_are_found_in_order():
    reference = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    found = nearest(torch.tensor([[2.9], [0.4]]), reference, 3)
    assert found.place.tolist() == [[2, 1, 0], [0, 1, 2]]
    torch.testing.assert_close(
        found.distance, torch.tensor([[0.1, 1.9, 2.9], [0.4, 0.6, 2.6]]).double(), atol=1e-6, rtol=0
    )
    assert nearest(reference, reference, 1, itself=True).place[:, 0].tolist() == [1, 0, 1, 2]
    with pytest.raises(ValueError, match="wanted k from 1 to 3"):
        nearest(reference, reference, 4, itself=True)


def test_copies_are_told_from_samples():
    train, held, fresh = (normal(400, 6, seed=s) for s in range(3))
    honest, copies = memorisation(fresh, train, held), memorisation(train[:300] + 1e-3, train, held)
    assert abs(honest.z) < 4.9 and honest.share == pytest.approx(honest.expected, abs=0.05)
    assert copies.z < -15 and copies.share > 0.99 and copies.expected < 0.05
    assert memorisation(3 * fresh, train, held).z > 5


def test_copies_of_duplicated_training_data_are_copies():
    """Their second neighbour is as near as the first, at distance 0: what is seen twice is learned by heart first."""
    train, held = normal(200, 6).repeat(2, 1), normal(100, 6, seed=1)
    assert memorisation(train[:50], train, held).share == 1


def test_copies_are_three_times_nearer_to_one_row_than_to_the_next():
    """On a line with rows at 0 and 1, at most a quarter away from one of them."""
    train, places = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [0.24], [0.26], [0.4]])
    assert memorisation(places, train, places[:3])[1:] == pytest.approx((0.5, 2 / 3))


def test_the_statistic_of_memorisation_is_mann_and_whitneys():
    train, held, fresh = normal(40, 2), normal(30, 2, seed=1).round(), 1.2 * normal(50, 2, seed=2).round()
    distance = [nearest(v, train).distance[:, 0].numpy() for v in (fresh, held)]
    _, p = stats.mannwhitneyu(*distance, alternative="less", use_continuity=False, method="asymptotic")
    assert memorisation(fresh, train, held).z == pytest.approx(stats.norm.ppf(p), rel=1e-9)


# classifiers


def test_the_inception_score_of_sure_and_unsure_classifiers():
    sure = 1e3 * torch.eye(5).repeat(20, 1)
    assert inception_score(sure, splits=4).value == pytest.approx(5)
    assert inception_score(torch.zeros(100, 5)).value == pytest.approx(1)
    assert inception_score(sure[:, [0, 1, 0, 1, 0]]).value < 2 * 1.01
    assert class_shares(torch.cat((sure, sure[:1]))).tolist() == pytest.approx([21 / 101] + [20 / 101] * 4)


def test_a_classifier_tells_other_laws_and_not_equal_ones():
    """The p-value of equal laws is above 1e-3 for this seed; that of a shift of one std below 1e-6."""
    x, y = normal(400, 3), normal(500, 3, seed=1)
    same, other = c2st(x, y), c2st(x, y + 1)
    assert same.p_value > 1e-3 and same.error == pytest.approx(0.5 / math.sqrt(800))
    assert other.p_value < 1e-6
    # the best classifier is right with probability Phi(|m| / 2)
    assert other.accuracy == pytest.approx(stats.norm.cdf(math.sqrt(3) / 2), abs=0.05)


@pytest.mark.parametrize(("n", "d"), [(50, 2), (200, 1), (400, 8)])
def test_a_classifier_tells_laws_that_are_far_apart_from_few_samples(n, d):
    for seed in (0, 1, 2**32 + 2):
        assert c2st(normal(n, d, seed=seed), normal(n, d, seed=seed + 9) + 20, seed=seed).accuracy == 1


@pytest.mark.parametrize("metric", [energy_distance, mmd, nearest, precision_recall, density_coverage, kid, c2st])
def test_samples_of_other_shapes_are_refused(metric):
    with pytest.raises(
        ValueError, match=r"wanted two sets of at least .* samples of one shape; got \(9, 3\), \(9, 2\)"
    ):
        metric(torch.zeros(9, 3), torch.zeros(9, 2))


def test_sets_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        sliced_wasserstein(torch.zeros(2, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="at least 4 samples"):
        precision_recall(torch.zeros(3, 1), torch.zeros(9, 1))
    with pytest.raises(ValueError, match="splits from 1 to 3"):
        inception_score(torch.zeros(3, 2))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize(
    "metric",
    [
        *(c2st, density_coverage, energy_distance, kid, mmd, nearest, precision_recall, sliced_wasserstein),
        lambda x, _: inception_score(x),
        lambda x, _: class_shares(x),
        lambda x, y: memorisation(y, x, y),
        lambda x, y: psnr(x, y, 1.0),
        lambda x, _: rank_levels(x, torch.zeros(len(x), dtype=torch.float64)),
        lambda x, y: tarp_levels(x[:, None], y),
    ],
)
def test_what_is_not_finite_is_refused(metric, broken):
    """Distances would hide it: the energy distance of NaN was 0."""
    x, y = normal(60, 4), normal(60, 4, seed=1)
    x[17, 2] = broken
    with pytest.raises(ValueError, match="1 of 240 numbers are NaN or infinite"):
        metric(x, y)


def test_copies_are_within_each_others_balls():
    """40 vectors, ten times each: every ball has the radius 0. Kills radii and distances that round otherwise."""
    x = normal(40, 7).repeat(10, 1)
    assert precision_recall(x, x.flip(0)) == (1, 1)
    assert density_coverage(x, x.flip(0)) == (2, 1)  # ten samples in each of ten balls, over 5 and 10


def test_distances_far_from_0_keep_their_digits():
    x, y = normal(200, 4), normal(200, 4, seed=1) + 0.3
    near, far = nearest(x, y, 3), nearest(x + 1e8, y + 1e8, 3)
    assert (near.place == far.place).double().mean() > 0.99
    assert energy_distance(x + 1e8, y + 1e8) == pytest.approx(energy_distance(x, y), rel=1e-4)


def test_a_few_far_rows_leave_the_distances_of_the_others():
    """One sample at 1e6 made 99 % of the others copies, when the rounding was that of the largest number."""
    x, y, far = normal(200, 3), normal(300, 3, seed=1), torch.full((1, 3), 1e12, dtype=torch.float64)
    wanted = nearest(x, y, 3).distance
    for some, among in ((torch.cat((x, far)), y), (x, torch.cat((y, far))), (x, torch.cat((far, y)))):
        torch.testing.assert_close(nearest(some, among, 3).distance[:200], wanted, rtol=1e-5, atol=0)


def test_features_far_from_0_keep_their_digits():
    x, y = normal(500, 1) + 1e9, 2 * normal(500, 1, seed=1) + 1e9
    a, b = (FeatureStats.of(extract(Pixels(), v)) for v in (x, y))
    assert frechet_distance(a, b) == pytest.approx(1, abs=0.2)
    with pytest.raises(ValueError, match="too large"):
        frechet_distance(FeatureStats.of(1e160 * x), FeatureStats.of(1e160 * y))
