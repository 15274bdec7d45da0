"""Processes that go on for longer than anything is left of the data, up to an alpha(T) of 0."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from helpers.processes import PROCESSES, name
from torch import Tensor

from scorefield import (
    EDM,
    VE,
    VP,
    Cosine,
    GaussianSDE,
    LinearSDE,
    Noise,
    NoisePrecond,
    NoiseProfile,
    NormalPrior,
    Power,
    Preconditioned,
    Rectified,
    SubVP,
    decode,
    default,
    elbo,
    encode,
    gaussian,
    grids,
    integrate,
    log_prob,
    network_calls,
    prior_mismatch,
    sample,
)
from scorefield.certify import optimised_grid, output_law
from scorefield.nn import MLP, seeded
from scorefield.objectives import DenoisingScoreMatching
from scorefield.objectives.states import path_times
from scorefield.objectives.time_densities import Levels, LogNormalSigma, TimeDensity, UniformLogSNR, UniformTime
from scorefield.posterior.levels import knots_between
from scorefield.sampling import adaptive, stochastic
from scorefield.solvers import (
    DDIM,
    AdaptiveSDE,
    BogackiShampine,
    Churn,
    DPMSolverPP,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    SciPyODE,
    Solver,
    Step,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")


def constant(value: float):
    return lambda t: value + 0 * t


@dataclass(frozen=True, kw_only=True)
class Underflowing(GaussianSDE):
    """A user's two functions: alpha is 0 in float64 from t = 2.73 on, and its logarithm has no derivative."""

    T: float = 3.0

    def alpha(self, t):
        return (-100 * t**2).exp()

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@dataclass(frozen=True, kw_only=True)
class Straight(GaussianSDE):
    """Rectified flow to its end, where alpha = 0 and g is infinite."""

    t_min: float = 1e-3
    t_end: float = 1e-2

    def alpha(self, t):
        return 1 - t

    def sigma(self, t):
        return t


LONG: list[GaussianSDE] = [
    VP(beta_max=150.0),
    VP(T=12.0),
    VP(T=20.0),
    SubVP(T=20.0),
    LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=40.0),
    LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=1e4),
    LinearSDE(lambda t: -5 - t, lambda t: 1 + t, T=30.0),
    Cosine(T=1 - 1e-12),
    Rectified(T=1 - 1e-15),
    Underflowing(),
    Straight(),
]
LARGE = [VE(sigma_max=1e10), EDM(T=1e8), Power(1e6)]  # noise that is as large as the data that it is made for
every_long = pytest.mark.parametrize("sde", LONG, ids=lambda sde: f"{name(sde)} {sde.T}")
several = pytest.mark.parametrize("sde", [LONG[2], *LONG[-3:]], ids=lambda sde: f"{name(sde)} {sde.T}")


def problem(sde: GaussianSDE, dtype: torch.dtype = torch.float64):
    """A normal law, points, and its log-density with the noise of t_min there."""
    mean, variance = torch.tensor([0.3, -0.2]), torch.tensor([0.5, 0.1])
    model = gaussian(sde, mean, variance)
    x = mean + Noise.per_sample(range(6)).normal(torch.empty(6, 2, dtype=torch.float64)) * variance.sqrt()
    x = x.to(dtype).double()
    (knot,) = sde.knots([sde.t_min])
    exact = model.log_prob(knot.alpha * x, knot.time) + 2 * math.log(knot.alpha)
    return model, x.to(dtype), exact


@every_long
def test_a_long_process_starts_where_the_data_are_lost(sde):
    assert sde.t_start < sde.T
    start, end = sde.knots([sde.t_start, sde.T])
    assert start.sigma / start.alpha == pytest.approx(2**20 * max(1, end.sigma), rel=1e-6)


@pytest.mark.parametrize("sde", [*PROCESSES, *LARGE], ids=name)
def test_a_process_that_ends_before_starts_at_its_end(sde):
    assert sde.t_start == sde.T


# ---- likelihoods and encodings


@several
def test_likelihoods_by_steps_of_their_own_size(sde):
    model, x, exact = problem(sde)
    assert float((log_prob(model, x[:2], tolerance=1e-6).nats - exact[:2]).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("sde", "dtype"),
    [*((sde, torch.float64) for sde in LONG), *((sde, torch.float32) for sde in (LONG[2], *LONG[-3:]))],
    ids=lambda value: f"{name(value)} {value.T}" if isinstance(value, GaussianSDE) else str(value),
)
def test_likelihoods_and_encodings(sde, dtype):
    model, x, exact = problem(sde, dtype)
    assert float((log_prob(model, x).nats - exact).abs().max()) < 1e-4
    latent = encode(model, x, steps=40)
    assert float((decode(model, latent, steps=40) - x).abs().max()) < 1e-4
    # at T the law is the prior, and the map to it that of each component's quantiles
    (knot,) = sde.knots([sde.T])
    (first,) = sde.knots([sde.t_min])
    spread = (torch.tensor([0.5, 0.1]) + (first.sigma / first.alpha) ** 2).sqrt()
    expected = knot.sigma * (x - torch.tensor([0.3, -0.2])) / spread
    torch.testing.assert_close(latent, expected.to(dtype), rtol=0, atol=1e-4 * knot.sigma)


@pytest.mark.parametrize("sde", [*LARGE, VE(sigma_max=1e100), Power(T=50.0)], ids=lambda sde: f"{name(sde)} {sde.T}")
def test_likelihoods_of_processes_with_large_noise(sde):
    model, x, exact = problem(sde)
    assert float((log_prob(model, x).nats - exact).abs().max()) < 1e-4
    assert float((decode(model, encode(model, x, steps=40), steps=40) - x).abs().max()) < 1e-4


def test_data_as_large_as_the_noise_are_seen_to_its_end():
    # raw units: nothing of a process whose noise is large is left out, however large its ratio
    sde = VE(1e3, 1e10, t_end=1e-5)
    model = gaussian(sde, torch.zeros(2), torch.tensor([1e16, 4e15]))
    x = torch.tensor([[5e7, -2e7]], dtype=torch.float64)
    (knot,) = sde.knots([sde.t_min])
    found = log_prob(model, x, tolerance=1e-6, prior=model.marginal(sde.T)).nats
    assert float((found - model.log_prob(x, knot.time)).abs()) < 1e-4
    law = output_law(UniPC(), grids.uniform_log_snr(sde, 60), sde, torch.tensor([1e16, 4e15]))
    assert law.error < 1e-2


# ---- the same as the process that ends at t_start


CUT = [(VP(T=20.0), lambda end: VP(T=end)), (SubVP(T=15.0), lambda end: SubVP(T=end))]
every_cut = pytest.mark.parametrize(("sde", "cut"), CUT, ids=["VP", "SubVP"])
GRIDS = [grids.uniform, grids.quadratic, grids.uniform_log_snr, grids.uniform_information, grids.karras]


@every_cut
def test_bounds_are_the_same(sde, cut):
    (model, x, _), (short, *_) = problem(sde), problem(cut(sde.t_start))
    torch.testing.assert_close(elbo(model, x).nats, elbo(short, x).nats, rtol=0, atol=1e-6)
    assert prior_mismatch(sde, x) < 1e-20  # the one at T itself


@every_cut
def test_grids_spend_their_steps_where_the_data_are(sde, cut):
    short = cut(sde.t_start)
    for grid in GRIDS:
        assert grid(sde, 9)[0] == sde.T and grid(sde, 9)[1:] == pytest.approx(grid(short, 9)[1:], rel=1e-9)
    for nfe in (1, 3, 5, 20):
        (solver, times), (same, expected) = default(sde, nfe), default(short, nfe)
        assert solver == same and times[0] == sde.T and times[1:] == pytest.approx(expected[1:], rel=1e-9)
        assert network_calls(sde, times, solver) == nfe
    assert adaptive(sde, 1e-3)[1][1:] == pytest.approx(adaptive(short, 1e-3)[1][1:])
    assert stochastic(sde, 7)[1][1:] == pytest.approx(stochastic(short, 7)[1][1:])
    assert [k.t for k in knots_between(sde, math.inf, 0.1, 5)] == pytest.approx(
        [k.t for k in knots_between(short, math.inf, 0.1, 5)]
    )


def test_an_optimised_grid_is_no_worse():
    v = torch.tensor([1.0, 0.1])
    found, expected = (
        output_law(DDIM(), optimised_grid(DDIM(), 4, process, v), process, v).error for process in (VP(T=20.0), VP())
    )
    assert found < 1.05 * expected


def test_the_chain_of_ddpm_does_not_go_beyond():
    sde = VP(beta_max=2000.0)
    times = grids.ddpm(sde, 4000)
    assert times[0] == sde.T and times[1] < sde.t_start
    assert all(b < a for a, b in pairwise(times))


@every_cut
@pytest.mark.parametrize("density", [UniformTime(), UniformLogSNR(), LogNormalSigma(), Levels()], ids=str)
def test_training_asks_for_no_noise_beyond(sde, cut, density: TimeDensity):
    short, u = cut(sde.t_start), torch.linspace(0, 0.999, 50, dtype=torch.float64)
    for found, expected in zip(density(sde, u), density(short, u), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    assert path_times(sde, 10) == pytest.approx(path_times(short, 10))
    # NoisePrecond divides by alpha, which is 0 at T
    losses = []
    for process in (sde, short):
        with seeded(0):
            model = Preconditioned(MLP((2,), features=16, blocks=1), process, NoisePrecond())
        losses.append(DenoisingScoreMatching(density)(model, torch.ones(40, 2), noise=Noise.per_batch(0, 40)))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        torch.tensor(NoiseProfile.of_normal(sde).log_snr), torch.tensor(NoiseProfile.of_normal(short).log_snr)
    )


SOLVERS: list[Solver] = [
    DDIM(),
    UniPC(),
    DPMSolverPP(2, 1.0),
    Heun(),
    EulerMaruyama(0.5),
    Churn(gamma=0.1),
    Restart(low=0.05, high=0.3),
    PredictorCorrector(DDIM(), Langevin()),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_start_at_t_start(solver):
    # the prior is the same at both ends, and so are samples by the same steps and the same noise
    sde = VP(T=20.0)
    short = VP(T=sde.t_start)
    v = torch.tensor([1.0, 0.05])
    times = grids.uniform_log_snr(sde, 40)
    drawn, expected = (
        sample(gaussian(process, torch.ones(2), v), (2,), [process.T, *times[1:]], solver, seeds=range(5))
        for process in (sde, short)
    )
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)
    assert float(drawn.std()) > 0.1


@every_long
def test_the_default_gives_the_law_of_the_data(sde):
    law = output_law(*default(sde, 20), sde, torch.tensor([0.05, 0.5, 1.0]))
    assert law.error < 1e-2


@several
@pytest.mark.parametrize("solver", [BogackiShampine(1e-5), SciPyODE(rtol=1e-6, atol=1e-6)], ids=str)
def test_adaptive_solvers_take_the_whole_way(sde, solver):
    v = torch.tensor([0.5, 0.1], dtype=torch.float64)
    model, x = gaussian(sde, torch.zeros(2), v), torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    one, other = sde.knots([sde.T, sde.t_end])
    expected = x * (other.alpha**2 * v + other.sigma**2).sqrt() / (one.alpha**2 * v + one.sigma**2).sqrt()
    found = integrate(model, x, [sde.T, sde.t_end], solver, noise=Noise.per_sample([0]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    back = integrate(model, found, [sde.t_end, sde.T], solver, noise=Noise.per_sample([0]))
    torch.testing.assert_close(back, x, rtol=1e-3, atol=0)


def test_the_adaptive_sde_has_the_data_variance():
    # 20,000 values: the variance errs by 1 % at one sigma, 4.9 of them are 1e-6; the method by half a percent
    sde = VP(T=20.0)
    model = gaussian(sde, torch.zeros(2), torch.tensor(0.5))
    x = sample(model, (2,), [20.0, 1e-3, 0.0], AdaptiveSDE(), seeds=range(10_000))
    assert abs(float(x.var()) / 0.5 - 1) < 0.055


@dataclass
class PlainScore:
    """grad log p of N(0, v) in float32: x + sigma^2 s is rounding where alpha is small."""

    sde: GaussianSDE
    v: float = 0.5

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        variance = alpha**2 * self.v + sigma**2
        return -x / (variance.reshape(-1, 1) if variance.ndim else variance).to(x)


@every_long
def test_a_plain_score_in_float32_is_as_good(sde):
    model, solver_and_times = gaussian(sde, torch.zeros(2), torch.tensor(0.5)), default(sde, 20)
    for solver, times in (solver_and_times, (DDIM(), grids.uniform_log_snr(sde, 30))):
        exact, plain = (sample(m, (2,), times, solver, seeds=range(50)) for m in (model, PlainScore(sde)))
        assert float((plain - exact).abs().max()) < 5e-3


class Recorder(Solver):
    """Says where it was asked to go."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    @property
    def convergence_order(self) -> int:
        return 1

    def step(self, model, x, now, next, state, *, noise) -> Step:
        self.asked.append((now.t, next.t))
        return Step(2 * x)


def test_steps_beyond_t_start_are_a_change_of_scale():
    sde = LinearSDE(constant(-1.0), lambda t: (2 + t).sqrt(), T=40.0)  # its noise grows on
    model, noise = gaussian(sde, torch.zeros(1), torch.ones(1)), Noise.per_sample([0])
    x, t = torch.ones(1, 1, dtype=torch.float64), sde.t_start
    seen: list[float] = []
    for times, asked, doubled in (
        ([40.0, 30.0, 20.0], [], 0),
        ([40.0, 30.0, 1.0, 0.5], [(t, 1.0), (1.0, 0.5)], 2),
        ([40.0, t, 1.0], [(t, 1.0)], 1),
        ([0.5, 1.0, 30.0, 40.0], [(0.5, 1.0), (1.0, t)], 2),
    ):
        solver = Recorder()
        y = integrate(model, x, times, solver, noise=noise, callback=lambda k, knot, step: seen.append(knot.t))
        assert solver.asked == asked
        inner = [min(s, t) for s in times]
        one, first, last, other = sde.knots([times[0], inner[0], inner[-1], times[-1]])
        assert float(y) == pytest.approx(2**doubled * first.size / one.size * other.size / last.size, rel=1e-12)
    assert seen[:2] == [30.0, 20.0]  # one call for each gap all the same


# ---- LinearSDE


@pytest.mark.parametrize("T", [1.0, 40.0, 1000.0])
def test_the_variance_of_a_process_at_rest_stays(T):
    sde = LinearSDE(lambda t: -1 - 0.5 * torch.sin(t), lambda t: (2 + torch.sin(t)).sqrt(), T=T)
    t = torch.linspace(0, T, 41, dtype=torch.float64)[1:]
    # g^2 = -2 a, so that alpha^2 + sigma^2 = 1
    log_alpha = -t - 0.5 * (1 - t.cos())
    torch.testing.assert_close(sde.sigma(t), (-torch.expm1(2 * log_alpha)).sqrt(), rtol=1e-10, atol=0)
    log_snr = 2 * log_alpha - (-torch.expm1(2 * log_alpha)).log()
    torch.testing.assert_close(sde.log_snr(t), log_snr, rtol=1e-10, atol=1e-10)
    assert sde.prior.std == pytest.approx(1, abs=1e-10)


def test_few_cells_are_not_taken_for_enough():
    # with 64 cells of 156 time units the variance is wrong by any factor, and as wrong with 128
    sde = LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=1e4)
    t = torch.tensor([1.0, 10.0, 5e3, 1e4], dtype=torch.float64)
    torch.testing.assert_close(sde.sigma(t), (-torch.expm1(-2 * t)).sqrt(), rtol=1e-9, atol=0)


def test_what_early_rates_do_is_not_lost_in_a_long_process():
    # int g^2 / alpha^2 is e^120 at the end, beside which nothing early counts
    def rates(T):
        return LinearSDE(constant(-1.0), lambda t: 1 + 0.9 * torch.sin(60 * t) * (-2 * t).exp(), T=T)

    t = torch.linspace(0.01, 2, 30, dtype=torch.float64)
    torch.testing.assert_close(rates(60.0).sigma(t), rates(2.0).sigma(t), rtol=1e-9, atol=0)


# ---- what float64 or float32 cannot hold


def test_states_too_small_for_their_type_are_refused():
    # alpha and sigma vanish together: there is no noise that is large beside the data, and no t_start
    sde = LinearSDE(constant(-100.0), lambda t: 3 * (-100 * t).exp(), T=1.0)
    assert sde.t_start == sde.T
    model = gaussian(sde, torch.zeros(2), torch.tensor(0.5))
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    (knot,) = sde.knots([sde.t_min])
    exact = model.log_prob(knot.alpha * x, knot.time) + 2 * math.log(knot.alpha)
    found = log_prob(model, x, prior=model.marginal(sde.T)).nats
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)
    assert float((decode(model, encode(model, x, steps=40), steps=40) - x).abs().max()) < 1e-5
    y = x.float()
    for call in (
        lambda: log_prob(model, y),
        lambda: log_prob(model, y, tolerance=1e-3),
        lambda: elbo(model, y),
        lambda: encode(model, y),
        lambda: decode(model, y),
        lambda: NormalPrior(1e-43).sample(y, Noise.per_sample([0])),
        lambda: NormalPrior(1e40).sample(y, Noise.per_sample([0])),
    ):
        with pytest.raises(ValueError, match=r"float32 cannot hold states of .* 1.*smaller T, or float64"):
            call()


def test_noise_whose_square_is_infinite_is_refused():
    for sde in (VE(sigma_max=1e200), EDM(T=1e160), Power(T=1e3)):
        for call in (lambda: default(sde, 20) and sde.prior, lambda: log_prob(*problem(sde)[:2])):  # noqa: B023
            with pytest.raises(ValueError, match=rf"sigma = .*sigma below 1e\+150.* T = {re.escape(str(sde.T))}"):
                call()
