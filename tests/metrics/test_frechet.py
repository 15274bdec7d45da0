"""Moments of features and their distance: closed forms, the null law, sums of parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.limits import memory_left
from scipy import linalg

from scorefield import _memory as memory
from scorefield.metrics import (
    Features,
    FeatureStats,
    Pixels,
    expected_frechet,
    extract,
    frechet,
    frechet_distance,
)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def law(mean, root):
    """Moments of the normal law with covariance root^T root."""
    return FeatureStats(None, mean, root)


def textbook(a, b):
    """By the matrix root of the product, in the mathematics of the paper."""
    root = linalg.sqrtm((a.covariance @ b.covariance).numpy())
    spread = float((a.covariance + b.covariance).trace()) - 2 * float(np.trace(root).real)
    return float((a.mean - b.mean).square().sum()) + spread


@pytest.mark.parametrize("d", [1, 3, 40])
def test_the_distance_is_that_of_normal_laws(d):
    a, b = (law(normal(d, seed=k), normal(d + 2, d, seed=10 + k)) for k in range(2))
    assert frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)
    assert frechet_distance(a, a) < 1e-10


def test_commuting_covariances_have_a_closed_form():
    """|m|^2 + sum (sqrt s - sqrt k)^2. Kills a transposed or squared covariance."""
    q = torch.linalg.qr(normal(30, 30)).Q
    s, k, m = normal(30, seed=1).abs(), normal(30, seed=2).abs(), normal(30, seed=3)
    a, b = law(torch.zeros(30).double(), s.sqrt()[:, None] * q), law(m, k.sqrt()[:, None] * q)
    wanted = float(m.square().sum() + (s.sqrt() - k.sqrt()).square().sum())
    assert frechet_distance(a, b) == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 7), (5, 100), (20, 300)])
def test_fewer_samples_than_features_keep_all_digits(n, m):
    """The samples rotated into n + m dimensions have the same distance there, where the root is of full rank or not."""
    d = 200
    a, b = normal(n, d), 2 * normal(m, d, seed=1) + 1
    basis = torch.linalg.qr(torch.cat((a, b)).mT).Q
    high = frechet_distance(FeatureStats.of(a), FeatureStats.of(b))
    low = frechet_distance(FeatureStats.of(a @ basis), FeatureStats.of(b @ basis))
    assert high == pytest.approx(low, rel=1e-11)
    x = FeatureStats.of(a)
    assert frechet_distance(x, FeatureStats.of(a.flip(0))) < 1e-10 * float(x.covariance.trace())


def test_moments_are_those_of_numpy():
    x = normal(50, 7) * 3 + 5
    stats = FeatureStats.of(x)
    np.testing.assert_allclose(stats.mean, x.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(stats.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("parts", [(25, 25), (1, 49), (3, 1, 1, 45), (1,) * 50, (7, 43)])
@pytest.mark.parametrize("d", [4, 30, 80])
def test_parts_add_up_to_the_whole(parts, d):
    """To 1e-12, as streams and processes do. Kills means of means and the missing shift of the mean."""
    x = normal(50, d) * torch.linspace(0.1, 10, d) + torch.linspace(-50, 50, 50)[:, None]
    whole = FeatureStats.of(x)
    first, *others = (FeatureStats.of(part, keep=True) for part in x.split(parts))
    total = sum(others, start=first)
    assert total.n == 50 and torch.equal(total.features.values, x)
    torch.testing.assert_close(total.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        total.covariance, whole.covariance, rtol=1e-12, atol=1e-12 * float(whole.covariance.max())
    )
    assert len(total.factor) <= max(2 * d, 51 + len(parts))
    other = FeatureStats.of(normal(60, d, seed=1))
    assert frechet_distance(total, other) == pytest.approx(frechet_distance(whole, other), rel=1e-12)


def test_two_samples_of_one_law_are_as_far_apart_as_the_null_law_says():
    """The mean of 300 distances within 4.9 of its standard errors, 1e-6 by chance, and the second order in 1 / n.

    Kills dividing by n instead of n - 1 in one of the sets, a missing 1/2, and one side's 1/n left out.
    """
    d, n, m = 10, 500, 800
    root = torch.diag(torch.linspace(0.3, 2, d).double())
    found = torch.tensor(
        [
            frechet_distance(
                *(FeatureStats.of(normal(k, d, seed=seed) @ root) for k, seed in ((n, 2 * s), (m, 2 * s + 1)))
            )
            for s in range(300)
        ]
    )
    wanted = expected_frechet(root @ root, n, m)
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - wanted) < 4.9 * error + wanted * 2 * d / n
    assert error < 0.02 * wanted


def test_the_null_law_of_unit_covariance():
    for d in (1, 7):
        assert expected_frechet(torch.eye(d).double(), 100, 300) == pytest.approx((1 / 100 + 1 / 300) * d * (d + 5) / 4)
    assert expected_frechet(torch.zeros(3, 3).double(), 10, 10) == 0


def test_saved_moments_come_back(tmp_path):
    features = Features(normal(90, 20).float(), normal(90, 3).float())
    for stats in (FeatureStats.of(features, "pixels", keep=True), FeatureStats.of(features)):
        with (tmp_path / "a.npz").open("wb") as file:
            stats.write(file)
        back = FeatureStats.read(tmp_path / "a.npz")
        assert (back.n, back.extractor) == (90, stats.extractor) and torch.equal(back.mean, stats.mean)
        torch.testing.assert_close(back.covariance, stats.covariance, rtol=1e-12, atol=1e-14)
        assert (back.features is None) == (stats.features is None)
    assert frechet_distance(back, stats) < 1e-12


def test_statistics_of_other_projects_are_read(tmp_path):
    stats = FeatureStats.of(normal(50, 6))
    np.savez(tmp_path / "fid.npz", mu=stats.mean, sigma=stats.covariance)
    back = FeatureStats.read(tmp_path / "fid.npz")
    assert back.n is None
    other = FeatureStats.of(normal(50, 6, seed=1))
    assert frechet_distance(back, other) == pytest.approx(frechet_distance(stats, other), rel=1e-12)
    with pytest.raises(ValueError, match="cannot be added"):
        back + other


def test_what_is_no_statistics_is_refused(tmp_path):
    mean, sigma = np.zeros(3), np.eye(3)
    bad = {
        "holds x; wanted real numbers mu": {"x": mean},
        "wanted mu": {"mu": np.zeros(4), "sigma": sigma},
        "NaN or infinite": {"mu": mean * np.nan, "sigma": sigma},
        "not symmetric": {"mu": mean, "sigma": np.triu(np.ones((3, 3)))},
        "negative variance": {"mu": mean, "sigma": -sigma},
        "holds mu, sigma; wanted real numbers": {"mu": mean.astype(str), "sigma": sigma},
        "3 samples have features and": {"mu": mean, "factor": sigma, "n": 3, "features": np.zeros((2, 3))},
        "says that it is of -5 samples": {"mu": mean, "factor": sigma, "n": -5},
        "NaN or infinite features": {"mu": mean, "factor": sigma, "n": 2, "features": np.full((2, 3), np.nan)},
        r"logits of shapes \(2, 3\) and \(1, 4\)": {
            "mu": mean,
            "factor": sigma,
            "n": 2,
            "features": np.zeros((2, 3)),
            "logits": np.zeros((1, 4)),
        },
    }
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            FeatureStats.read(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", mu=np.array([{}]), sigma=sigma)  # pickled, which would run code
    with pytest.raises(ValueError, match=r"cannot be read as NumPy data"):
        FeatureStats.read(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"cannot be read as NumPy data"):
        FeatureStats.read(tmp_path / "bad.npz")


def test_sets_of_other_features_do_not_compare():
    a, b = FeatureStats.of(normal(5, 3), "pixels"), FeatureStats.of(normal(5, 3), "inception 6726825d")
    with pytest.raises(ValueError, match="different extractors cannot be compared: pixels and inception"):
        frechet_distance(a, b)
    with pytest.raises(ValueError, match="features of 3 and 4 numbers"):
        a + FeatureStats.of(normal(5, 4), "pixels")
    with pytest.raises(ValueError, match="two samples of each set; got 1 and 5"):
        frechet_distance(FeatureStats.of(normal(1, 3)), a)
    with pytest.raises(ValueError, match="NaN or infinite"):
        FeatureStats.of(normal(5, 3) / 0)


def test_pixels_are_the_samples_in_any_batches():
    x = torch.randint(17, (10, 1, 2, 3), generator=torch.Generator().manual_seed(0))
    for batch_size in (1, 3, 10, 99):
        assert torch.equal(extract(Pixels(), x, batch_size).values, x.reshape(10, 6).float())
    assert (Pixels().label, Pixels().named("FD")) == ("pixels", "FD-pixels")


@pytest.mark.parametrize("n", [2, 5, 20, 199, 200, 201, 600])
def test_the_spectrum_is_that_of_the_covariance_whichever_side_is_short(n):
    stats = FeatureStats.of(normal(n, 200) * torch.linspace(0.1, 3, 200))
    values = torch.linalg.eigvalsh(stats.covariance)
    rank = len(stats.spectrum)
    assert rank == min(n, 200)
    torch.testing.assert_close(stats.spectrum, values[-rank:].clamp_min(0), rtol=0, atol=1e-13 * float(values[-1]))
    assert expected_frechet(stats, n, 300) == pytest.approx(expected_frechet(stats.covariance, n, 300), rel=1e-12)


@pytest.mark.parametrize("n", [3, 40, 90])
def test_the_null_law_is_the_double_sum_in_any_blocks(n, monkeypatch):
    v = torch.linspace(0, 2, n, dtype=torch.float64)
    pairs = sum(float(a * b / (a + b)) for a in v for b in v if a + b > 0)
    wanted = (1 / 70 + 1 / 50) * (float(v.sum()) + 0.5 * pairs + 0.25 * float(v.sum()))
    for block in (1, 100, 4_000_000):
        monkeypatch.setattr(frechet, "PAIRS", block)
        assert expected_frechet(torch.diag(v), 70, 50) == pytest.approx(wanted, rel=1e-12)


def test_few_samples_of_many_features_need_no_matrix_of_features(tmp_path):
    """20 and 20 samples of 40,000 features, where a covariance has 12.8 GB, with 200 MB: all that the command does."""
    d, basis = 40_000, torch.linalg.qr(normal(80, 80, seed=7)).Q
    low = [normal(20, 80, seed=k) @ basis + k for k in range(3)]
    high = [torch.cat((x, torch.zeros(20, d - 80, dtype=torch.float64)), 1) for x in low]
    with memory_left(200 << 20):
        a, b, c = map(FeatureStats.of, high)
        with (tmp_path / "a.npz").open("wb") as file:
            (a + b).write(file)
        both = FeatureStats.read(tmp_path / "a.npz")
        found = frechet_distance(both, c), expected_frechet(both, 40, 20)
        with pytest.raises(ValueError, match=r"a covariance of 40000 x 40000 numbers needs 11\.92 GiB, more"):
            _ = both.covariance
    small = FeatureStats.of(low[0]) + FeatureStats.of(low[1])
    assert found[0] == pytest.approx(textbook(small, FeatureStats.of(low[2])), rel=1e-6)
    assert found[1] == pytest.approx(expected_frechet(small.covariance, 40, 20), rel=1e-12)


def test_what_is_too_large_is_refused_before_it_is_begun(monkeypatch, tmp_path):
    """Sizes by hand: of 1000 x 300 numbers 8 bytes each, and so on."""
    x = normal(1000, 300)
    stats = FeatureStats.of(x)
    np.savez(tmp_path / "sigma.npz", mu=np.zeros(300), sigma=np.eye(300))
    monkeypatch.setattr(memory, "total", lambda: 1e5)
    for call, message in (
        (lambda: FeatureStats.of(x), "the covariance of 1000 samples with 300 features needs 2.289 MiB"),
        (lambda: stats.covariance, "a covariance of 300 x 300 numbers needs 703.1 KiB"),
        (lambda: stats.spectrum, "300 samples with 300 features needs 1.373 MiB"),
        (lambda: frechet_distance(stats, stats), "distance of 300 and 300 samples with 300 features needs 2.747 MiB"),
        (lambda: extract(Pixels(), x), "1000 samples with 300 features needs 4.578 MiB"),
    ):
        with pytest.raises(ValueError, match=f"{message}, more memory than there is: "):
            call()
    with pytest.raises(ValueError, match=r"sigma.npz: its arrays would take 705.5 KiB, more than the 97.66 KiB"):
        FeatureStats.read(tmp_path / "sigma.npz")
    monkeypatch.setattr(memory, "total", lambda: 1e6)
    with pytest.raises(ValueError, match=r"sigma.npz: the root of a covariance of 300 x 300.* 2.06 MiB"):
        FeatureStats.read(tmp_path / "sigma.npz")
    monkeypatch.setattr(memory, "total", lambda: math.inf)
    large = pytest.raises(ValueError, match=r"of 90000 and 50 samples with 40000 features needs 11\.97 GiB, mo")
    with memory_left(1 << 30), large:  # the address space has it not
        frechet.check_frechet(90_000, 50, 40_000)


def test_a_distance_of_hours_is_announced(monkeypatch):
    """27,648 features of 50,000 samples: in proportion to the cube of 2048, which take 4 s."""
    monkeypatch.setattr(frechet, "check_fits", lambda *_: None)
    with pytest.warns(UserWarning, match="50000 and 60000 samples with 27648 features takes about 3 hours on a core"):
        frechet.check_frechet(50_000, 60_000, 27_648)
    frechet.check_frechet(50_000, 15_000, 27_648)  # 0.8 hours: no warning, which would be an error here
