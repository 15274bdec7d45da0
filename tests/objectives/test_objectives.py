"""Objectives against closed forms: what the loss is on average, what densities and weights integrate to.

Statistical checks run at fixed seeds; at other seeds each fails correct code with probability 1e-6.
"""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.processes import PROCESSES, name
from scipy import stats
from torch import Tensor, nn

from scorefield import (
    EDM,
    VE,
    VP,
    Denoiser,
    EDMPrecond,
    GaussianSDE,
    Noise,
    NoisePrecond,
    Preconditioned,
    Rectified,
    ScorePrecond,
    SubVP,
    TimePrecond,
    VelocityPrecond,
    gaussian,
)
from scorefield.objectives import (
    DenoisingScoreMatching,
    EDMWeight,
    LabelDropout,
    LikelihoodWeight,
    LogNormalSigma,
    MinSNRWeight,
    Objective,
    SimpleWeight,
    UniformLogSNR,
    UniformTime,
    Weight,
)
from scorefield.objectives.denoising import noise_error

SIGMAS = stats.norm.isf(1e-6 / 2)
EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]
DENSITIES = [UniformTime(), UniformLogSNR(), LogNormalSigma(), LogNormalSigma(0.5, 2.0)]
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=name)
every_density = pytest.mark.parametrize("density", DENSITIES, ids=str)
MEAN, VARIANCE = 0.75, 0.375


class Scaled(Denoiser):
    """D = c x: wrong, but its loss is known."""

    def __init__(self, sde: GaussianSDE, c: float) -> None:
        super().__init__(sde)
        self.c = c

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.c * x


def mean_error(sde: GaussianSDE, t: Tensor, c: Tensor | float, mean: float = MEAN) -> Tensor:
    """E |ehat - eps|^2 of D = c x in one dimension, with ehat - eps = (1 - alpha c) alpha / sigma x_0 - alpha c eps."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return ((1 - alpha * c) * alpha / sigma) ** 2 * (VARIANCE + mean**2) + (alpha * c) ** 2


def data(rows: int, *event: int) -> Tensor:
    z = Noise.per_sample(range(10**6, 10**6 + rows)).normal(torch.empty(rows, *event, dtype=torch.float64))
    return MEAN + math.sqrt(VARIANCE) * z


def mean_over(f: Callable[[Tensor], Tensor]) -> float:
    """int_0^1 f(u) du; with u = 1 / (1 + exp(-s)) the trapezoidal rule sees both ends and converges exponentially."""
    s = torch.linspace(-36, 36, 40001, dtype=torch.float64)
    u = torch.sigmoid(s)
    return float(torch.trapezoid(f(u) * u * torch.sigmoid(-s), s))


@every_process
@every_density
def test_p_is_the_density_of_the_log_snr(sde, density):
    """p |d log_snr / du| = 1 and u = 0, 1 are the ends of the range, so p integrates to 1 over it."""
    u = torch.linspace(0, 1, 1001, dtype=torch.float64).requires_grad_()
    t, p = density(sde, u)
    log_snr = sde.log_snr(t)
    slope = torch.autograd.grad(log_snr.sum(), u)[0].abs()
    assert slope.shape == p.shape == t.shape == u.shape
    inside = slice(1, -1)
    torch.testing.assert_close((p * slope)[inside], torch.ones(999, dtype=torch.float64), rtol=1e-9, atol=0)
    t, log_snr = t.detach(), log_snr.detach()
    assert sorted([float(t[0]), float(t[-1])]) == pytest.approx([sde.t_min, sde.T], rel=1e-4)
    steps = log_snr.diff()
    assert bool((steps > 0).all()) or bool((steps < 0).all())


@every_process
def test_uniform_time_has_the_documented_density(sde):
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    t, p = UniformTime()(sde, u)
    torch.testing.assert_close(t, sde.t_min + (sde.T - sde.t_min) * u, rtol=1e-14, atol=0)
    torch.testing.assert_close(p, sde.sigma(t) ** 2 / ((sde.T - sde.t_min) * sde.g(t) ** 2), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("sde", "width"), [(VP(), 23.86447), (VE(), 2 * math.log(5000) * (1 - 1e-5))], ids=["VP", "VE"]
)
def test_uniform_log_snr_has_one_over_the_normaliser(sde, width):
    u = torch.tensor([0.25, 0.5], dtype=torch.float64)
    t, p = UniformLogSNR()(sde, u)
    torch.testing.assert_close(1 / p, torch.full_like(p, width), rtol=0, atol=6e-6)
    assert abs(float(sde.log_snr(t).diff())) == pytest.approx(width / 4, abs=2e-6)


def test_normal_log_snr_is_the_papers_law_of_log_sigma():
    """Karras et al. 2022: ln sigma ~ N(-1.2, 1.2^2); of its quantiles, the cut at [0.002, 80] moves only the tails."""
    u = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    t, p = LogNormalSigma()(EDM(), u)
    expected = stats.norm.isf(u.numpy(), -1.2, 1.2)
    assert t.log().tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    # in the log-SNR -2 ln sigma the density is half of that in ln sigma
    assert p.tolist() == pytest.approx((0.5 * stats.norm.pdf(expected, -1.2, 1.2)).tolist(), rel=1e-3)


@pytest.mark.parametrize("sde", [VP(), VE(), Rectified()], ids=name)
@every_density
def test_times_are_float64_and_inside_the_process(sde, density):
    t, p = density(sde, torch.tensor([0.0, 0.5], dtype=torch.float64))
    assert t.dtype == p.dtype == torch.float64
    assert bool((t >= sde.t_min).all()) and bool((t <= sde.T).all())


@pytest.mark.parametrize("mean", [-40.0, 40.0])
def test_a_normal_density_without_mass_in_the_range_is_an_error(mean):
    with pytest.raises(ValueError, match=f"mean={mean}|range"):
        LogNormalSigma(mean)(VP(), torch.tensor([0.5], dtype=torch.float64))


@every_process
@every_density
def test_the_likelihood_weight_gives_one_bound_whatever_the_density(sde, density):
    """For the optimal denoiser of N(0, v):  int E|ehat - eps|^2 / 2 dlog_snr = log(1 + v SNR) / 2 between the ends.

    Kills densities of another normaliser and a weight without 1 / p.
    """

    if isinstance(sde, SubVP) and isinstance(density, LogNormalSigma):
        pytest.skip("there the normal law's upper tail has less mass than the spacing of float64 below 1")

    def integrand(u: Tensor) -> Tensor:
        t, p = density(sde, u)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        optimal = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
        return 0.5 * LikelihoodWeight()(sde.log_snr(t), p) * mean_error(sde, t, optimal, mean=0.0)

    low, high = sde.log_snr(torch.tensor([sde.T, sde.t_min], dtype=torch.float64)).exp().tolist()
    exact = 0.5 * (math.log1p(VARIANCE * high) - math.log1p(VARIANCE * low))
    assert mean_over(integrand) == pytest.approx(exact, rel=1e-6)


@every_process
def test_weights_are_the_published_ones(sde):
    t, p = UniformTime()(sde, torch.linspace(0.01, 0.99, 9, dtype=torch.float64))
    alpha, sigma, log_snr = sde.alpha(t), sde.sigma(t), sde.log_snr(t)
    snr, ratio = (alpha / sigma) ** 2, sigma / alpha

    def check(weight: Weight, expected: Tensor) -> None:
        torch.testing.assert_close(weight(log_snr, p), expected, rtol=1e-10, atol=0)

    check(SimpleWeight(), torch.ones_like(t))
    # lambda = g^2 on |score - grad log p|^2 = |ehat - eps|^2 / sigma^2, times the length of the interval of time
    check(LikelihoodWeight(), (sde.T - sde.t_min) * sde.g(t) ** 2 / sigma**2)
    for d in (0.5, 2.0):
        # on |D - x_0|^2 = ratio^2 |ehat - eps|^2
        check(EDMWeight(d), ratio**2 * (ratio**2 + d**2) / (ratio * d) ** 2)
    for gamma in (5.0, 0.3):
        check(MinSNRWeight(gamma), ratio**2 * snr.clamp_max(gamma))


@pytest.mark.parametrize("sde", [VP(), VE(), Rectified(), EDM()], ids=name)
@pytest.mark.parametrize(
    ("density", "weight"),
    [
        (UniformTime(), SimpleWeight()),
        (UniformLogSNR(), LikelihoodWeight()),
        (LogNormalSigma(), EDMWeight(0.5)),
        (UniformTime(), MinSNRWeight()),
    ],
    ids=["simple", "likelihood", "EDM", "min-SNR"],
)
def test_the_mean_loss_of_a_linear_denoiser_is_its_closed_form(sde, density, weight):
    """E loss = w d / 2 [((1 - alpha c) alpha / sigma)^2 (v + m^2) + alpha^2 c^2] at each sample's time.

    Each loss is divided by its expectation, so that every noise level counts. Kills noise x 0.99, a missing 1/2,
    ehat + eps, a loss that is a mean over the event, times that do not belong to their weights.
    """
    c, rows, event = 0.6, 20_000, (64,)
    noise = Noise.per_batch(3, rows)
    losses = DenoisingScoreMatching(density, weight)(Scaled(sde, c), data(rows, *event), noise=noise)
    t, p = density(sde, noise.stratified(0))
    relative = losses / (0.5 * weight(sde.log_snr(t), p) * math.prod(event) * mean_error(sde, t, c))
    assert abs(float(relative.mean()) - 1) <= SIGMAS * float(relative.std()) / math.sqrt(rows)
    assert float(relative.std()) / math.sqrt(rows) < 0.002


@pytest.mark.parametrize("sde", [VP(), EDM()], ids=name)
def test_the_mean_loss_over_all_times_is_its_integral(sde):
    """The loss's own times follow the density: the mean over a batch against quadrature over u."""
    rows, c, objective = 40_000, 0.6, DenoisingScoreMatching(LogNormalSigma(), MinSNRWeight())

    def integrand(u: Tensor) -> Tensor:
        t, p = objective.density(sde, u)
        return 0.5 * 4 * objective.weight(sde.log_snr(t), p) * mean_error(sde, t, c)

    losses = objective(Scaled(sde, c), data(rows, 4), noise=Noise.per_batch(4, rows))
    assert abs(float(losses.mean()) - mean_over(integrand)) <= SIGMAS * float(losses.std()) / math.sqrt(rows)
    assert float(losses.std()) / math.sqrt(rows) < 0.006 * float(losses.mean())


PRECONDS = [EDMPrecond(0.5), NoisePrecond(), ScorePrecond(), TimePrecond(), VelocityPrecond()]
every_precond = pytest.mark.parametrize("precond", PRECONDS, ids=lambda p: type(p).__name__)


class Waves(nn.Module):
    """A smooth network whose output does not depend on the precision of its weights."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return (1.25 * x + noise.reshape(-1, *(1,) * (x.ndim - 1))).sin() - 0.5 * x


def batch(event: tuple[int, ...], sde: GaussianSDE) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers that float32 represents exactly, at times of all magnitudes."""
    x0, eps = (v.float().double() for v in (data(6, *event), data(6, *event).flip(0) - MEAN))
    t = torch.tensor([sde.t_min, sde.t_end, 0.03 * sde.T, 0.2 * sde.T, 0.7 * sde.T, sde.T], dtype=torch.float64)
    return x0, eps, t


@every_process
@every_precond
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_error_in_the_networks_space_is_the_error_of_the_noise(sde, precond, event):
    """ehat - eps, sigma (score + eps / sigma) up to sign, and -(alpha / sigma)(D - x_0) are one number."""
    model = Preconditioned(Waves(), sde, precond)
    x0, eps, t = batch(event, sde)
    xt, error = sde.perturb(x0, t, eps), noise_error(model, x0, eps, t)
    for i, knot in enumerate(sde.knots(t.tolist())):
        atol = 1e-13 * (1 + knot.alpha / knot.sigma) * (1 + float(xt[i].abs().max()) / knot.alpha)
        scale = -knot.alpha / knot.sigma
        torch.testing.assert_close(error[i], scale * (model(xt, t) - x0)[i], rtol=1e-9, atol=atol)
        torch.testing.assert_close(error[i], model.noise(xt, t)[i] - eps[i], rtol=1e-9, atol=atol)
        torch.testing.assert_close(error[i], -knot.sigma * model.score(xt, t)[i] - eps[i], rtol=1e-9, atol=atol)


@every_process
@every_precond
def test_the_error_in_float32_does_not_cancel_at_small_noise(sde, precond):
    """The direct formula loses the digits of sigma / |x_0|; in the network's space none are lost."""
    model = Preconditioned(Waves(), sde, precond)
    x0, eps, t = (v[:2] for v in batch((16, 3), sde))
    # the noised input is rounded to float32 in both formulas
    exact = noise_error(model, x0, eps, t)
    ours = noise_error(model, x0.float(), eps.float(), t)
    assert ours.dtype == torch.float32
    worst = float((ours - exact).abs().max())
    assert worst < 5e-6
    xt = sde.perturb(x0.float(), t, eps.float())
    ratio = (sde.alpha(t) / sde.sigma(t)).reshape(2, 1, 1).float()
    direct = float((-ratio * (model(xt, t) - x0.float()) - exact).abs().max())
    if float(ratio.max()) > 300:
        assert direct > 10 * worst


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_the_edm_objective_is_the_plain_error_of_the_networks_output(sde, sigma_data):
    """EDM's weight cancels EDM's out: the loss is |F - target|^2 / 2 for every process."""
    model = Preconditioned(Waves(), sde, EDMPrecond(sigma_data))
    x0, noise = data(6, 2), Noise.per_batch(1, 6)
    objective = DenoisingScoreMatching(LogNormalSigma(), EDMWeight(sigma_data))
    losses = objective(model, x0, noise=noise)
    t = objective.density(sde, noise.stratified(0))[0]
    s, eps = (sde.sigma(t) / sde.alpha(t))[:, None], noise.normal(x0, 1)
    y = x0 + s * eps
    root = (s**2 + sigma_data**2).sqrt()
    target = (x0 - sigma_data**2 / root**2 * y) * root / (s * sigma_data)
    expected = 0.5 * ((Waves()(y / root, s[:, 0].log() / 4) - target) ** 2).sum(1)
    torch.testing.assert_close(losses, expected, rtol=1e-8, atol=1e-10)


def test_the_exact_denoiser_of_one_point_has_no_error():
    model = gaussian(VP(), torch.tensor([0.5, -2.0]), torch.tensor(0.0))
    x0 = torch.tensor([[0.5, -2.0]] * 8, dtype=torch.float64)
    losses = DenoisingScoreMatching(weight=LikelihoodWeight())(model, x0, noise=Noise.per_batch(0, 8))
    torch.testing.assert_close(losses, torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-20)


@every_density
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_does_not_depend_on_batch_mates_or_processes(density, event, dtype):
    """Kills reductions over the batch, and times or noise drawn by place in the part instead of the whole."""
    objective = DenoisingScoreMatching(density, EDMWeight(0.5))
    model, x0 = Preconditioned(Waves(), VP(), EDMPrecond(0.5)), data(7, *event).to(dtype)
    whole = objective(model, x0, noise=Noise.per_batch(5, 7).at(2))
    assert whole.dtype == dtype and len(set(whole.tolist())) == 7
    for positions in ([0, 2, 4, 6], [1, 3, 5], [6, 0], [3]):
        part = objective(model, x0[positions], noise=Noise.per_batch(5, 7, positions).at(2))
        torch.testing.assert_close(part, whole[positions], rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0)
    other_mates = torch.cat((x0[:3], x0[3:] + 100))
    assert torch.equal(objective(model, other_mates, noise=Noise.per_batch(5, 7).at(2))[:3], whole[:3])


class Labels(Objective):
    """Reports the labels that the model would see."""

    def __call__(self, model: Denoiser, x0: Tensor, *, noise: Noise, **cond: Tensor) -> Tensor:
        return cond["label"].to(x0.dtype)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_hidden_at_their_rate_and_otherwise_kept(rate):
    """Kills a rate of 0.11 (15 standard errors)."""
    n, model = 200_000, Scaled(VP(), 1.0)
    label = torch.arange(n) % 7
    seen = LabelDropout(Labels(), rate)(model, torch.zeros(n), noise=Noise.per_batch(0, n), label=label)
    hidden = seen == -1
    assert torch.equal(seen[~hidden].long(), label[~hidden])
    count = int(hidden.sum())
    assert count == rate * n if rate in (0.0, 1.0) else stats.binomtest(count, n, rate).pvalue > 1e-6
    again = LabelDropout(Labels(), rate)(model, torch.zeros(n), noise=Noise.per_batch(0, n).at(1), label=label) == -1
    both = int((hidden & again).sum())
    assert both == count if rate in (0.0, 1.0) else stats.binomtest(both, n, rate**2).pvalue > 1e-6


def test_hidden_labels_are_chosen_by_the_sample_and_not_by_its_noise_level():
    n, dropout = 20_000, LabelDropout(Labels(), 0.3)
    model, x0, label = Scaled(VP(), 1.0), torch.zeros(n), torch.full((n,), 4)
    noise = Noise.per_batch(1, n)
    hidden = dropout(model, x0, noise=noise, label=label) == -1
    positions = [5, 17, 19_999]
    part = dropout(model, x0[:3], noise=Noise.per_batch(1, n, positions), label=label[:3]) == -1
    assert torch.equal(part, hidden[positions])
    # the objective's own times and noise are those of child 1
    u = noise.child(1).stratified(0)
    assert stats.kstest(u[hidden].numpy(), "uniform").pvalue > 1e-6
    z = noise.child(1).normal(torch.empty(n, 8, dtype=torch.float64), 1)[hidden]
    assert abs(float((z**2 - 1).sum())) <= SIGMAS * math.sqrt(2 * z.numel())


class Shifted(Denoiser):
    """D = x + label."""

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return x + cond["label"].to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) + cond.get("shift", 0)


@pytest.mark.parametrize("rate, seen", [(0.0, 5), (1.0, -1)])
def test_label_dropout_is_its_objective_under_the_labels_that_remain(rate, seen):
    objective, model, x0 = DenoisingScoreMatching(), Shifted(VP()), data(9, 3)
    label, noise, shift = torch.full((9,), 5), Noise.per_batch(0, 9), torch.tensor(0.25)
    got = LabelDropout(objective, rate)(model, x0, noise=noise, label=label, shift=shift)
    expected = objective(model, x0, noise=noise.child(1), label=torch.full((9,), seen), shift=shift)
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: LabelDropout(rate=1.5), r"\[0, 1\]; got 1.5"),
        (lambda: LabelDropout(rate=-0.1), r"\[0, 1\]; got -0.1"),
        (lambda: LabelDropout(rate=math.nan), r"\[0, 1\]; got nan"),
        (lambda: LogNormalSigma(std=0.0), "std must be positive; got 0.0"),
        (lambda: LogNormalSigma(std=math.nan), "got nan"),
        (lambda: EDMWeight(0.0), "sigma_data.*got 0.0"),
        (lambda: EDMWeight(-1.0), "sigma_data.*got -1.0"),
        (lambda: MinSNRWeight(0.0), "gamma.*got 0.0"),
        (lambda: MinSNRWeight(-5.0), "gamma.*got -5.0"),
        (
            lambda: LabelDropout()(Scaled(VP(), 1.0), torch.zeros(2), noise=Noise.per_batch(0, 2)),
            "needs labels: give data with labels",
        ),
        (
            lambda: DenoisingScoreMatching()(Scaled(VP(), 1.0), torch.zeros(3, 2), noise=Noise.per_batch(0, 2)),
            r"2 samples.*\(3, 2\)",
        ),
    ],
)
def test_errors_say_what_was_got_and_what_was_wanted(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
