"""Likelihoods and encodings against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.networks import labelled_denoiser
from helpers.processes import PROCESSES, name
from scipy import stats
from torch import Tensor

from scorefield import (
    EDM,
    VE,
    VP,
    Denoiser,
    ExactTrace,
    GaussianMixture,
    GaussianSDE,
    Hutchinson,
    HutchPlusPlus,
    Noise,
    NormalPrior,
    SubVP,
    decode,
    encode,
    gaussian,
    log_prob,
)


def mixture(sde: GaussianSDE, d: int) -> GaussianMixture:
    """Four components with correlated covariances."""
    g = torch.Generator().manual_seed(d)
    means = 1.5 * torch.randn(4, d, generator=g, dtype=torch.float64)
    factors = 0.4 * torch.randn(4, d, d, generator=g, dtype=torch.float64)
    return GaussianMixture(sde, torch.tensor([0.1, 0.2, 0.3, 0.4]), means, factors @ factors.mT + 0.2 * torch.eye(d))


def data(model: GaussianMixture, d: int, n: int) -> Tensor:
    return model.marginal(0.0).sample(torch.empty(n, d, dtype=torch.float64), Noise.per_sample(range(n)))


def truth(model: GaussianMixture, x: Tensor) -> Tensor:
    """The log-density of the data with noise sigma / alpha at t_min, which is what the ODE starts from."""
    knot = model.sde.knots([model.sde.t_min])[0]
    return model.log_prob(knot.alpha * x, knot.time) + x[0].numel() * math.log(knot.alpha)


@pytest.mark.parametrize(("sde", "d"), [*((sde, 2) for sde in PROCESSES), (VP(), 16), (VE(), 16)], ids=str)
def test_log_prob_of_a_mixture(sde: GaussianSDE, d: int) -> None:
    model = mixture(sde, d)
    x = data(model, d, 24)
    result = log_prob(model, x, steps=30, prior=model.marginal(sde.T))
    assert float((result.nats - truth(model, x)).abs().max()) < (1e-4 if d == 2 else 2e-2)
    assert bool((result.stderr == 0).all())
    assert result.nfe.tolist() == [180] * 24
    torch.testing.assert_close(sum(result.terms.values()), result.nats)


def ring(sde: GaussianSDE) -> GaussianMixture:
    """Eight normal laws of standard deviation 0.2 on the unit circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return GaussianMixture(sde, torch.ones(8), torch.stack([angle.cos(), angle.sin()], 1), torch.full((8,), 0.04))


@pytest.mark.parametrize("sde", [VP(), VE(), SubVP(), EDM()], ids=name)
def test_sixty_calls_give_four_digits_in_the_plane(sde: GaussianSDE) -> None:
    """The promised accuracy by default; RK4 in the log-SNR, the same calls, errs by 4e-3 and more."""
    model = ring(sde)
    x = data(model, 2, 500)
    result = log_prob(model, x, prior=model.marginal(sde.T))
    error = (result.nats - truth(model, x)).abs()
    assert int(result.nfe.max()) <= 60
    assert float(error.mean()) < 1e-4 and float(error.max()) < 3e-3


@pytest.mark.parametrize("sde", [VP(), VE()], ids=name)
def test_the_error_follows_the_tolerance_and_each_sample_goes_its_own_way(sde: GaussianSDE, unchecked: None) -> None:
    """Killed by one error norm for the batch, and by a norm in which the log-density counts as one of many."""
    model = ring(sde)
    x = data(model, 2, 100)
    for tolerance, calls in ((1e-3, 42), (1e-5, 85), (1e-7, 180)):
        result = log_prob(model, x, tolerance=tolerance, prior=model.marginal(sde.T))
        assert float((result.nats - truth(model, x)).abs().mean()) < 30 * tolerance
        assert float(result.nfe.double().mean()) < calls
    assert len(result.nfe.unique()) > 3
    alone = log_prob(model, x[7:9], tolerance=1e-7, prior=model.marginal(sde.T))
    torch.testing.assert_close(alone.nats, result.nats[7:9], rtol=1e-12, atol=1e-12)
    assert torch.equal(alone.nfe, result.nfe[7:9])
    split = log_prob(model, x, tolerance=1e-7, prior=model.marginal(sde.T), batch_size=64)
    assert torch.equal(split.nfe, result.nfe)


@pytest.mark.parametrize("sde", [VE(), VE(sigma_min=0.05), EDM()], ids=str)
def test_the_truncation_is_the_change_of_the_density_down_to_the_data(sde: GaussianSDE) -> None:
    """To first order in s^2; killed by a missing 1/2 or |score|^2, or by s^2 of another time."""
    model = ring(sde)
    x = data(model, 2, 64)
    wanted = model.log_prob(x, torch.tensor(0.0)) - truth(model, x)
    s2 = sde.knots([sde.t_min])[0].sigma ** 2
    error = (log_prob(model, x, steps=1).truncation - wanted).abs().max()
    assert float(error) < 400 * (s2 / 0.04) ** 2 < 20 * float(wanted.abs().max())


def test_the_noise_at_t_min_is_the_only_difference_to_clean_data() -> None:
    model = mixture(VP(), 2)
    x = data(model, 2, 64)
    assert float((truth(model, x) - model.log_prob(x, torch.tensor(0.0))).abs().max()) < 1e-3


def test_fifth_order_in_the_step() -> None:
    # at these steps the error still falls faster; a stage with a wrong weight leaves order 1, RK4's tableau 4
    model = mixture(VE(), 2)
    x = data(model, 2, 32)
    errors = [
        float((log_prob(model, x, steps=n, prior=model.marginal(1.0)).nats - truth(model, x)).abs().mean())
        for n in (20, 40)
    ]
    assert math.log2(errors[0] / errors[1]) > 4.75


@pytest.mark.parametrize("probes", [2, 4])
def test_students_interval_over_the_probes_covers_the_truth(probes: int, unchecked: None) -> None:
    # The trace estimates of 16 correlated dimensions are near normal. The share of 8000 intervals at 95 % has the
    # standard error 0.24 %: it leaves the band 95 +- 1.2 % with probability 1e-6. Dividing by K instead of K - 1 covers
    # 93.0 %. At equal steps both traces meet the same error of the ODE solver, so that few steps do.
    sde, n = VP(), 8000
    model = mixture(sde, 16)
    x = data(model, 16, 1).expand(n, 16).contiguous()
    exact = log_prob(model, x[:1], steps=5, prior=model.marginal(sde.T)).nats
    result = log_prob(model, x, steps=5, prior=model.marginal(sde.T), divergence=Hutchinson(probes), seeds=range(n))
    width = stats.t.ppf(0.975, probes - 1) * result.stderr
    covered = float(((result.nats - exact).abs() <= width).double().mean())
    assert 0.938 <= covered <= 0.962, covered
    # and the estimator is unbiased: its mean over all runs lies within 4.9 standard errors
    error = result.nats.std() / math.sqrt(n)
    assert abs(float(result.nats.mean() - exact)) < 4.9 * float(error)


def test_probes_are_rademacher_and_kept_along_the_path() -> None:
    # For a diagonal Jacobian every sign vector gives the exact trace
    model = GaussianMixture(VP(), torch.ones(1), torch.zeros(1, 6), torch.rand(1, 6, generator=torch.Generator()) + 0.2)
    x = data(model, 6, 5)
    exact, probed = (log_prob(model, x, divergence=d) for d in (ExactTrace(), Hutchinson(1)))
    torch.testing.assert_close(exact.nats, probed.nats)
    assert bool(probed.stderr.isnan().all())


def mixed(sde: GaussianSDE, variances: Tensor) -> GaussianMixture:
    """A normal law with these variances in directions that mix the components."""
    d = len(variances)
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    return GaussianMixture(sde, torch.ones(1), torch.zeros(1, d), (basis * variances @ basis.T)[None])


def test_hutch_plus_plus_is_unbiased_with_less_variance_and_a_calibrated_error(unchecked: None) -> None:
    # Of 4000 runs. Means within 4.9 standard errors and coverage of 95 +- 1.7 % fail with probability 1e-6. Probes that
    # are not projected count the spanned directions twice.
    sde, n = VP(), 4000
    model = mixed(sde, 16 / torch.arange(1, 17, dtype=torch.float64) ** 2)
    x = data(model, 16, 1).expand(n, 16).contiguous()
    exact = log_prob(model, x[:1], steps=5).nats
    plain = log_prob(model, x, steps=5, divergence=Hutchinson(8), seeds=range(n))
    better = log_prob(model, x, steps=5, divergence=HutchPlusPlus(4, 4), seeds=range(n))
    for result in (plain, better):
        error = float(result.nats.std()) / math.sqrt(n)
        assert abs(float(result.nats.mean() - exact)) < 4.9 * error + 1e-9
    assert float(better.nats.var()) < 0.7 * float(plain.nats.var())
    assert {*plain.nfe.tolist()} <= {30, 31} and {*better.nfe.tolist()} <= {31, 32}  # the sketch takes one
    width = stats.t.ppf(0.975, 3) * better.stderr
    covered = float(((better.nats - exact).abs() <= width).double().mean())
    assert 0.933 <= covered <= 0.967, covered


def test_hutch_plus_plus_needs_nothing_more_where_few_structures_are_large(unchecked: None) -> None:
    """Killed by projected signs whose random length is left in: 9 times the variance of Hutchinson's, not 1/1000."""
    variances = torch.full((16,), 0.01, dtype=torch.float64)
    variances[:2] = torch.tensor([9.0, 4.0])
    model, n = mixed(VP(), variances), 500
    x = data(model, 16, 1).expand(n, 16).contiguous()
    plain, better = (log_prob(model, x, steps=5, divergence=d).nats for d in (Hutchinson(8), HutchPlusPlus(4, 4)))
    assert float(better.var()) < 1e-2 * float(plain.var())


def test_hutch_plus_plus_with_every_direction_is_exact() -> None:
    model = mixture(VP(), 4)
    x = data(model, 4, 6)
    exact, all_ = (log_prob(model, x, divergence=rule) for rule in (ExactTrace(), HutchPlusPlus(2, 4)))
    torch.testing.assert_close(all_.nats, exact.nats)
    assert float(all_.stderr.max()) < 1e-12
    with pytest.raises(ValueError, match=r"sketch of 5 directions .* got 4"):
        log_prob(model, x, divergence=HutchPlusPlus(2, 5))


def test_the_integrand_is_smooth_since_the_probes_are_kept(unchecked: None) -> None:
    """Twice the steps change nothing; probes redrawn at each call would differ by their standard error."""
    model = mixed(VP(), torch.linspace(0.1, 2, 16, dtype=torch.float64) ** 2)
    x = data(model, 16, 5)
    for rule in (Hutchinson(2), HutchPlusPlus(2, 2)):
        one, other = (log_prob(model, x, steps=n, divergence=rule) for n in (20, 40))
        assert float((one.nats - other.nats).abs().max()) < 1e-3 < 0.01 * float(one.stderr.mean())


def test_a_result_depends_on_its_sample_and_seed_alone() -> None:
    model = mixture(VP(), 16)
    x, seeds = data(model, 16, 7), [3, 1, 4, 15, 9, 2, 6]
    whole = log_prob(model, x, steps=5, divergence=Hutchinson(3), seeds=seeds)
    split = log_prob(model, x, steps=5, divergence=Hutchinson(3), seeds=seeds, batch_size=3)
    alone = log_prob(model, x[4:5], steps=5, divergence=Hutchinson(3), seeds=[9])
    torch.testing.assert_close(split.probes, whole.probes, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alone.probes, whole.probes[4:5], rtol=1e-12, atol=1e-12)
    other = log_prob(model, x, steps=5, divergence=Hutchinson(3), seeds=range(7))
    assert not torch.allclose(other.nats, whole.nats)


def test_steps_of_their_own_size_leave_no_trace_of_batch_mates(unchecked: None) -> None:
    # the samples are of very different sizes, so that they take different steps; kernels round by the batch's size
    sizes, model = torch.logspace(-2, 1.5, 6)[:, None, None, None], labelled_denoiser("MLP")
    x = sizes * Noise.per_sample(range(6)).normal(torch.empty(6, 1, 8, 8))

    def results(rows: list[int]) -> list[Tensor]:
        given, chosen = model.given(label=torch.tensor(rows) % 4), x[rows]
        found = [way(given, chosen, tolerance=1e-3, batch_size=4) for way in (encode, decode)]
        for rule in (Hutchinson(2), HutchPlusPlus(2, 2)):
            result = log_prob(given, chosen, seeds=rows, divergence=rule, tolerance=1e-3, batch_size=4)
            found += [result.nats, result.nfe]
        return found

    whole = results([0, 1, 2, 3, 4, 5])
    assert len(set(whole[-1][:4].tolist())) > 1
    for rows in ([5, 4, 3, 2, 1, 0], [3], [4, 1]):
        for found, expected in zip(results(rows), whole, strict=True):
            assert torch.equal(found, expected[rows])


@pytest.mark.parametrize("shape", [(), (2,), (3, 4, 4), (1, 12)])
def test_event_shapes(shape: tuple[int, ...]) -> None:
    sde, n = VP(), 3
    d = math.prod(shape)
    variances = torch.linspace(0.3, 2.0, d, dtype=torch.float64)
    model = GaussianMixture(sde, torch.ones(1), torch.zeros(1, *shape), variances[None])
    x = data(model, max(d, 1), n).reshape(n, *shape)
    result = log_prob(model, x, steps=20, prior=model.marginal(1.0))
    exact = torch.distributions.Normal(0, variances.sqrt()).log_prob(x.reshape(n, -1)).sum(1)
    torch.testing.assert_close(result.nats, exact, rtol=0, atol=1e-4 * max(d, 1))


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_encoding_is_the_transport_to_the_prior_and_inverts(sde: GaussianSDE) -> None:
    # the probability flow of a Gaussian scales each component by the ratio of its standard deviations
    variances = torch.tensor([0.05, 0.5, 2.0], dtype=torch.float64)
    model = GaussianMixture(sde, torch.ones(1), torch.zeros(1, 3), variances[None])
    x = data(model, 3, 8)
    start, end = sde.knots([sde.t_min, sde.T])
    latent = encode(model, x)
    ratio = (end.alpha**2 * variances + end.sigma**2).sqrt() / (start.alpha**2 * variances + start.sigma**2).sqrt()
    torch.testing.assert_close(latent, start.alpha * x * ratio, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(decode(model, latent), x, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("sde", [VP(), VE()], ids=name)
def test_adaptive_encodings_invert(sde: GaussianSDE) -> None:
    model = ring(sde)
    x = data(model, 2, 50)
    latent = encode(model, x, tolerance=1e-7)
    torch.testing.assert_close(decode(model, latent, tolerance=1e-7), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(encode(model, x, steps=80), latent, rtol=1e-5, atol=1e-5)


def test_bits_per_dim_of_real_numbers_are_refused() -> None:
    model = mixture(VP(), 2)
    result = log_prob(model, data(model, 2, 3), steps=1)
    with pytest.raises(ValueError, match=r"bits/dim have no meaning for continuous data.*use nats"):
        _ = result.bits_per_dim
    bits = replace(result, discrete=True, nats=torch.full((3,), -2 * 5 * math.log(2))).bits_per_dim
    assert bits.tolist() == pytest.approx([5.0] * 3)


def test_bad_requests_are_refused() -> None:
    model = mixture(VP(), 2)
    x = data(model, 2, 3)
    with pytest.raises(ValueError, match="1 values that are not finite"):
        log_prob(model, torch.where(torch.eye(3, 2) * torch.tensor([1.0, 0.0]) > 0, math.nan, x))
    with pytest.raises(ValueError, match="got 2 for 3 samples"):
        log_prob(model, x, seeds=[0, 1])
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        log_prob(model, x, steps=0)
    with pytest.raises(ValueError, match="tolerance must lie in"):
        encode(model, x, tolerance=0.0)
    with pytest.raises(ValueError, match=r"1\.\.253; got 0"):
        Hutchinson(0)
    with pytest.raises(ValueError, match="at least 1 and 253 together at most; got 250 and 5"):
        HutchPlusPlus(250, 5)


def test_a_result_has_no_gradient_rather_than_a_wrong_one() -> None:
    model = mixture(VP(), 2)
    assert not log_prob(model, data(model, 2, 3).requires_grad_(), steps=2).nats.requires_grad


class Constant(Denoiser):
    def forward(self, x: torch.Tensor, t: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_a_denoiser_that_ignores_its_input() -> None:
    # all data are at 0, so that at t_min the law is N(0, sigma^2)
    sde, x = VP(), torch.tensor([[0.002, -0.001]], dtype=torch.float64)
    knot = sde.knots([sde.t_min])[0]
    exact = torch.distributions.Normal(0.0, knot.sigma).log_prob(x).sum(1)
    last = sde.knots([sde.T])[0]
    nats = log_prob(Constant(sde), x, steps=40, prior=NormalPrior(last.sigma)).nats
    torch.testing.assert_close(nats, exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("d", "probes", "sketch"), [(2, 2, 1), (4, 2, 2), (8, 2, 7)])
def test_hutch_plus_plus_of_an_isotropic_jacobian_is_exact(d: int, probes: int, sketch: int) -> None:
    """There the estimate is exact, also for probes that lie in the span of Q, with which 0 / 0 would come up."""
    model, x = gaussian(VP(), torch.zeros(d), torch.tensor(0.25)), torch.linspace(-1, 1, 60 * d).reshape(60, d).double()
    found = log_prob(model, x, divergence=HutchPlusPlus(probes, sketch), steps=5)
    torch.testing.assert_close(found.nats, log_prob(model, x, steps=5).nats, rtol=1e-9, atol=1e-9)
