"""Processes: published numbers, closed forms against autodiff, bisection, quadrature and the simulated SDE.

Statistical checks run at fixed seeds; at other seeds each fails correct code with probability 1e-6.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
import torch
from helpers.processes import PROCESSES, name
from scipy import stats

from scorefield import (
    EDM,
    SDE,
    VE,
    VP,
    Cosine,
    GaussianSDE,
    ItoSDE,
    Knot,
    LinearSDE,
    Noise,
    NormalPrior,
    Power,
    Rectified,
    SubVP,
)

SIGMAS = stats.norm.isf(1e-6 / 2)
EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=name)


def at(*times: float) -> torch.Tensor:
    return torch.tensor(times, dtype=torch.float64)


def times_of(sde: SDE, count: int = 41) -> torch.Tensor:
    """Times of all magnitudes between t_min and T."""
    t = torch.logspace(math.log10(sde.t_min), math.log10(sde.T), count, dtype=torch.float64)
    return t.clamp(sde.t_min, sde.T)


@dataclass(frozen=True)
class TwoMethods(GaussianSDE):
    """What a user writes: the alpha and sigma of another process, and nothing else."""

    of: GaussianSDE = field(default_factory=VP)

    def alpha(self, t):
        return self.of.alpha(t)

    def sigma(self, t):
        return self.of.sigma(t)


def two_methods(sde: GaussianSDE) -> TwoMethods:
    return TwoMethods(T=sde.T, t_min=sde.t_min, t_end=sde.t_end, of=sde)


def linear(sde: GaussianSDE) -> LinearSDE:
    return LinearSDE(sde.a, sde.g, T=sde.T, t_min=sde.t_min, t_end=sde.t_end)


@pytest.mark.parametrize(
    ("sde", "function", "t", "value"),
    [
        (VP(), "integral", 1, "10.05000000"),
        (VP(), "alpha", 1, "0.00657159"),
        (VP(), "sigma", 1, "0.9999784"),
        (VP(), "sigma", 1e-3, "0.01048542"),
        (VP(), "sigma", 1e-5, "0.00100050"),
        (VP(), "sigma", 0.002, "0.0154845"),
        (VP(), "sigma", 0.011, "0.0479718"),
        (VP(), "sigma", 0.101, "0.3249585"),
        (VP(), "sigma", 0.501, "0.9600664"),
        (VP(), "beta", 0.5, "10.05000000"),
        (SubVP(), "sigma", 1e-3, "0.000109944"),
        (SubVP(), "alpha", 1, "0.00657159"),
        (VE(), "sigma", 0, "0.010000000"),
        (VE(), "sigma", 1, "50.0000000"),
        (VE(), "g", 0, "0.0412727"),
        (VE(), "g", 1, "206.3637"),
        (Power(), "sigma", 1, "9.8452"),
        (Power(), "sigma", 1e-3, "0.0317"),
        (Power(), "sigma", 1e-5, "0.00316"),
        (Power(), "g", 0.5, "5.00000000"),
        (Power(math.e), "sigma", 0.5, "0.9268985"),
        (Cosine(), "sigma", 1 / 3, "0.50000000"),
        (Cosine(), "alpha", 0.5, "0.70710678"),
        (Rectified(), "alpha", 0.25, "0.75000000"),
        (Rectified(), "sigma", 0.25, "0.25000000"),
        (EDM(), "sigma", 80, "80.0000000"),
        (EDM(), "g", 2, "2.00000000"),
    ],
)
def test_functions_of_time_have_their_published_values(sde, function, t, value):
    last_digit = 10.0 ** Decimal(value).as_tuple().exponent
    assert float(getattr(sde, function)(at(t))) == pytest.approx(float(value), rel=0, abs=0.51 * last_digit)


@pytest.mark.parametrize(("sde", "normaliser"), [(VP(), 23.86447), (SubVP(), 37.67895)], ids=["VP", "SubVP"])
def test_the_range_of_the_log_snr_is_the_normaliser_of_importance_sampling(sde, normaliser):
    high, low = sde.log_snr(at(1e-5, 1))
    assert float(high - low) == pytest.approx(normaliser, abs=5e-6)


@every_process
def test_closed_forms_agree_with_autodiff_and_bisection(sde):
    t, generic = times_of(sde), two_methods(sde)
    for function in ("log_snr", "a", "g"):
        got, expected = getattr(sde, function)(t), getattr(generic, function)(t)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12, msg=function)
    log_snr = sde.log_snr(t)
    torch.testing.assert_close(generic.time(log_snr), t, rtol=1e-9, atol=0)
    torch.testing.assert_close(sde.time(log_snr), t, rtol=1e-9, atol=0)
    assert bool((log_snr.diff() < 0).all())


@every_process
def test_rates_satisfy_the_equation_of_the_log_snr(sde):
    """g^2 = -sigma^2 d(log_snr)/dt and a = d log(alpha)/dt: the definitions, for the closed forms."""
    t = times_of(sde).requires_grad_()
    slope = torch.autograd.grad(sde.log_snr(t).sum(), t)[0]
    torch.testing.assert_close(sde.g(t) ** 2, -(sde.sigma(t) ** 2) * slope, rtol=1e-9, atol=1e-14)


@every_process
@pytest.mark.parametrize("function", ["alpha", "sigma", "log_snr", "a", "g"])
def test_float32_loses_no_digits_at_small_times(sde, function):
    """Kills sqrt(1 - exp(-B)), which is wrong by 6e-3 at t = 1e-5 where -expm1 is right to 1e-7."""
    t = times_of(sde).float()
    exact = getattr(sde, function)(t.double())
    got = getattr(sde, function)(t)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact, rtol=2e-6, atol=1e-5 if function == "log_snr" else 0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("make", [lambda sde: sde, two_methods, linear], ids=["closed", "generic", "linear"])
@every_process
def test_functions_of_time_act_elementwise(sde, make, shape):
    sde = make(sde)
    t = times_of(sde, 6).flip(0)[: math.prod(shape)].reshape(shape)
    for function in (sde.alpha, sde.sigma, sde.log_snr, sde.a, sde.g, lambda t: sde.time(sde.log_snr(t))):
        value = function(t)
        assert value.shape == shape
        one_by_one = torch.stack([function(s) for s in t.flatten()]).reshape(shape)
        torch.testing.assert_close(value, one_by_one, rtol=1e-13, atol=0)


@every_process
def test_quadrature_of_the_rates_gives_alpha_and_sigma(sde):
    numeric, t = linear(sde), times_of(sde)
    torch.testing.assert_close(numeric.alpha(t), sde.alpha(t), rtol=1e-9, atol=0)
    # the SDE starts from clean data: VE's kernel is then without the variance at t = 0
    start = sde.sigma(at(0)) if isinstance(sde, VE) else 0.0
    variance = sde.sigma(t) ** 2 - start**2
    torch.testing.assert_close(numeric.sigma(t) ** 2, variance, rtol=1e-8, atol=0)
    torch.testing.assert_close(numeric.log_snr(t), (sde.alpha(t) ** 2 / variance).log(), rtol=0, atol=1e-8)
    torch.testing.assert_close(numeric.time(numeric.log_snr(t)), t, rtol=1e-8, atol=0)


LINEAR = {
    "Ornstein-Uhlenbeck, constant rates": (
        LinearSDE(lambda t: 0 * t - 1.5, lambda t: 0 * t + 0.7, T=3.0),
        lambda t: (-1.5 * t).exp(),
        lambda t: 0.7 * (-torch.expm1(-3 * t) / 3).sqrt(),
    ),
    "growing": (
        LinearSDE(lambda t: 2 * t, lambda t: t.square().exp() * t),
        lambda t: t.square().exp(),
        lambda t: t.square().exp() * (t**3 / 3).sqrt(),
    ),
    "periodic drift, whose integral over [0, T] is 0": (
        LinearSDE(lambda t: 2 * math.pi * torch.cos(2 * math.pi * t), lambda t: (torch.sin(2 * math.pi * t)).exp()),
        lambda t: torch.sin(2 * math.pi * t).exp(),
        lambda t: torch.sin(2 * math.pi * t).exp() * t.sqrt(),
    ),
    "fast oscillation": (
        LinearSDE(lambda t: 0 * t, lambda t: torch.sqrt(1 + torch.cos(400 * t))),
        lambda t: torch.ones_like(t),
        lambda t: (t + torch.sin(400 * t) / 400).sqrt(),
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_a_linear_sde_has_the_moments_of_its_rates(case):
    sde, alpha, sigma = LINEAR[case]
    t = torch.linspace(1e-4, 1, 57, dtype=torch.float64) * sde.T
    torch.testing.assert_close(sde.alpha(t), alpha(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.sigma(t), sigma(t), rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.log_snr(t), 2 * (alpha(t) / sigma(t)).log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "rates",
    [
        (lambda t: 0 * t, lambda t: t**-0.5),
        (lambda t: -1 / t, lambda t: 1 + 0 * t),
        (lambda t: math.nan * t, lambda t: t),
        (lambda t: 0 * t, lambda t: torch.where(t < 1 / 3, 1.0, 2.0).double()),
    ],
    ids=["variance diverges", "alpha diverges", "nan", "jump"],
)
def test_rates_whose_integrals_do_not_converge_are_an_error(rates):
    sde = LinearSDE(*rates)
    for function in (sde.alpha, sde.sigma, sde.log_snr):
        with pytest.raises(ValueError, match=r"do not converge.*log alpha.*smooth rates"):
            function(at(0.5))


@dataclass(frozen=True)
class Reciprocal(GaussianSDE):
    """alpha = 1 / (1 + t), sigma = t: a = -1 / (1 + t), g^2 = 2 t (1 + t / (1 + t)), sigma / alpha = t (1 + t)."""

    T: float = 5.0

    def alpha(self, t):
        return 1 / (1 + t)

    def sigma(self, t):
        return t


def test_two_methods_make_a_process():
    sde, t = Reciprocal(), at(1e-4, 0.3, 2, 5)
    torch.testing.assert_close(sde.a(t), -1 / (1 + t), rtol=1e-13, atol=0)
    torch.testing.assert_close(sde.g(t) ** 2, 2 * t * (1 + t / (1 + t)), rtol=1e-13, atol=0)
    ratio = at(0.01, 1, 6)
    torch.testing.assert_close(sde.time(-2 * ratio.log()), (torch.sqrt(1 + 4 * ratio) - 1) / 2, rtol=1e-12, atol=0)
    assert sde.prior.std == pytest.approx(math.hypot(1 / 6, 5))
    assert sde.knots([0.5])[0] == pytest.approx(
        Knot(0.5, 1 / 1.5, 0.5, 2 * math.log(1 / 0.75), -1 / 1.5, math.sqrt(4 / 3))
    )
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    torch.testing.assert_close(sde.drift(x, at(0.5, 1)), x * torch.tensor([[-1 / 1.5], [-0.5]]))
    assert sde.diffusion(x, at(0.5, 1)).shape == (2, 1)


@pytest.mark.parametrize("make", [lambda sde: sde, two_methods, linear], ids=["closed", "generic", "linear"])
@every_process
def test_knots_hold_the_functions_of_time_in_float64(sde, make):
    sde = make(sde)
    times = [sde.T, 0.3 * sde.T, 0.0, sde.t_min]
    knots = sde.knots(times)
    assert [knot.t for knot in knots] == times
    assert sde.knots([0.0]) == [knots[2]] == [Knot(0.0, 1.0, 0.0, math.inf, 0.0, 0.0)]
    for knot in (knots[0], knots[1], knots[3]):
        for column in ("alpha", "sigma", "log_snr", "a", "g"):
            assert getattr(knot, column) == pytest.approx(
                float(getattr(sde, column)(at(knot.t))), rel=1e-13, abs=1e-300
            )
        assert float(knot.time) == knot.t and knot.time.dtype == torch.float64
        if make is not linear or not isinstance(sde, VE):
            assert sde.knot_at(knot.log_snr).t == pytest.approx(knot.t, rel=1e-8)


def test_a_process_that_is_not_gaussian_has_knots_of_time_alone():
    sde = ItoSDE(lambda x, t: -(x**3), lambda x, t: x)
    knot = sde.knots([0.5])[0]
    assert knot.t == 0.5 and all(math.isnan(value) for value in knot[1:])


@pytest.mark.parametrize("wrong", [-1e-9, 1.1, math.nan, math.inf])
def test_times_outside_the_process_are_an_error(wrong):
    for call in (VP().knots, ItoSDE(lambda x, t: x, lambda x, t: x).knots):
        with pytest.raises(ValueError, match=rf"\[0, 1.0\]; got {wrong}"):
            call([0.5, wrong])


@every_process
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_drift_diffusion_and_kernel_are_affine_in_each_sample(sde, event, dtype):
    x, eps = (Noise.per_sample(range(3)).normal(torch.empty(3, *event, dtype=dtype), draw) for draw in (0, 1))
    t = at(sde.t_min, 0.4 * sde.T, 0.998 * sde.T)
    drift, xt = sde.drift(x, t), sde.perturb(x, t, eps)
    diffusion = sde.diffusion(x, t).expand_as(x)
    assert drift.dtype == diffusion.dtype == xt.dtype == dtype
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    for i, knot in enumerate(sde.knots(t.tolist())):
        exact, z = x[i].double(), eps[i].double()
        for got, expected, size in (
            (drift[i], knot.a * exact, abs(knot.a) * exact.abs()),
            (diffusion[i], torch.full_like(exact, knot.g), knot.g),
            (xt[i], knot.alpha * exact + knot.sigma * z, knot.alpha * exact.abs() + knot.sigma * z.abs()),
        ):
            assert bool(((got.double() - expected).abs() <= tolerance * size).all())
        # one time for the whole batch is the same thing
        assert torch.equal(sde.drift(x, knot.time)[i], drift[i])
        assert torch.equal(sde.perturb(x, knot.time, eps)[i], xt[i])


class UnitNoise:
    """Sample k > 0 gets a unit impulse at step k - 1 and nothing else, so that a linear chain's exact law shows."""

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def at(self, step: int) -> "UnitNoise":
        return UnitNoise(step)

    def child(self, part: int) -> "UnitNoise":
        raise AssertionError(part)

    def select(self, rows: torch.Tensor) -> "UnitNoise":
        raise AssertionError(rows)

    def uniform(self, like: torch.Tensor, draw: int = 0) -> torch.Tensor:
        raise AssertionError(draw)

    def normal(self, like: torch.Tensor, draw: int = 0) -> torch.Tensor:
        impulse = torch.zeros_like(like)
        impulse[self.step + 1] = 1
        return impulse


def law_of_chain(sde: SDE, times: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The factor of x_0 and the variance at each time, of the simulated chain."""
    start = torch.zeros(len(times), dtype=torch.float64)
    start[0] = 1
    path = sde.simulate(start, times, noise=UnitNoise())
    return path[:, 0], (path[:, 1:] ** 2).sum(1)


@pytest.mark.parametrize("sde", [*PROCESSES, Reciprocal(), LINEAR["growing"][0]], ids=name)
def test_simulated_moments_converge_to_the_kernel_at_first_order(sde):
    """Kills noise x 0.99, h for sqrt(h), g for g^2, a doubled drift."""
    start, end = 0.2 * sde.T, 0.7 * sde.T
    a, b = sde.knots([start, end])
    exact = b.alpha / a.alpha, b.sigma**2 - (b.alpha / a.alpha * a.sigma) ** 2
    errors = []
    for steps in (100, 200):
        mean, variance = law_of_chain(sde, torch.linspace(start, end, steps + 1, dtype=torch.float64).tolist())
        errors.append((float(mean[-1]) / exact[0] - 1, float(variance[-1]) / exact[1] - 1))
    for coarse, fine in zip(*errors, strict=True):
        if abs(coarse) > 1e-12:
            assert abs(fine) < 0.05 and coarse / fine == pytest.approx(2, abs=0.25)


def test_the_path_is_the_euler_maruyama_chain_of_its_own_noise():
    sde = ItoSDE(lambda x, t: x - x**3 + t, lambda x, t: 0.3 + 0.1 * x.tanh(), T=2.0)
    times = [0.0, 0.1, 0.15, 0.5, 2.0]
    noise = Noise.per_sample([4, 2**64 - 4])
    x = noise.normal(torch.empty(2, 3, 2, dtype=torch.float64), draw=5)
    path = sde.simulate(x, times, noise=noise)
    assert path.shape == (5, 2, 3, 2) and torch.equal(path[0], x)
    for k in range(4):
        h, z = times[k + 1] - times[k], noise.at(k).normal(x)
        expected = path[k] + (path[k] - path[k] ** 3 + times[k]) * h + (0.3 + 0.1 * path[k].tanh()) * h**0.5 * z
        torch.testing.assert_close(path[k + 1], expected, rtol=1e-14, atol=1e-14)
    alone = sde.simulate(x[1:], times, noise=Noise.per_sample([2**64 - 4]))
    assert torch.equal(alone[:, 0], path[:, 1])


def test_geometric_brownian_motion_has_its_moments():
    """E x_n = prod (1 + m h) and E x_n^2 = prod ((1 + m h)^2 + s^2 h) for the chain.

    Kills the Stratonovich reading of state-dependent noise, whose mean is larger by exp(s^2 T / 2).
    """
    m, s, n, h = 0.5, 0.4, 20, 0.05
    sde = ItoSDE(lambda x, t: m * x, lambda x, t: s * x)
    start = torch.ones(4000, 100, dtype=torch.float64)
    times = [h * k for k in range(n + 1)]
    x = sde.simulate(start, times, noise=Noise.per_sample(range(4000)))[-1]
    for power in (1, 2):
        # E (1 + m h + s sqrt(h) z)^k of one step, to the power of n steps
        moment = {k: _step_moment(1 + m * h, s * math.sqrt(h), k) ** n for k in (power, 2 * power)}
        error = math.sqrt((moment[2 * power] - moment[power] ** 2) / x.numel())
        assert abs(float((x**power).mean()) - moment[power]) <= SIGMAS * error


def _step_moment(mean: float, std: float, k: int) -> float:
    normal = {0: 1, 2: 1, 4: 3}
    return sum(math.comb(k, j) * mean ** (k - j) * std**j * normal[j] for j in range(0, k + 1, 2))


@pytest.mark.parametrize("times", [[0.5, 0.5], [0.5, 0.2]])
def test_simulation_needs_increasing_times(times):
    with pytest.raises(ValueError, match=f"increasing times; got 0.5 before {times[1]}"):
        VP().simulate(torch.zeros(1), times, noise=Noise.per_sample([0]))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("std", [0.01, 1.0, 80.0])
def test_the_normal_prior_has_the_density_of_the_normal_law(event, std):
    x = std * Noise.per_sample(range(4)).normal(torch.empty(4, *event, dtype=torch.float64))
    expected = torch.from_numpy(stats.norm.logpdf(x.numpy(), scale=std)).reshape(4, -1).sum(1)
    torch.testing.assert_close(NormalPrior(std).log_prob(x), expected, rtol=1e-13, atol=1e-12)


def test_the_prior_draws_with_its_standard_deviation():
    """Kills noise x 0.99 (10 standard errors)."""
    x = NormalPrior(7.0).sample(torch.empty(5000, 100, dtype=torch.float64), Noise.per_sample(range(5000)))
    assert abs(float((x**2).mean()) / 49 - 1) <= SIGMAS * math.sqrt(2 / x.numel())


@every_process
def test_the_prior_has_the_variance_of_the_process_at_T(sde):
    knot = sde.knots([sde.T])[0]
    assert sde.prior.std == pytest.approx(math.sqrt(knot.alpha**2 + knot.sigma**2), rel=1e-14)
    assert sde.prior_for(3.0).std == pytest.approx(math.sqrt(9 * knot.alpha**2 + knot.sigma**2), rel=1e-14)


def test_an_ito_sde_uses_the_prior_it_was_given():
    sde = ItoSDE(lambda x, t: -x, lambda x, t: x, terminal=NormalPrior(2.0))
    assert sde.prior == NormalPrior(2.0)
    with pytest.raises(ValueError, match="terminal=NormalPrior"):
        _ = replace(sde, terminal=None).prior


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: VP(T=0.0), "t_min <= t_end < T; got .*T=0.0"),
        (lambda: VP(T=math.inf), "T=inf"),
        (lambda: VP(t_min=0.0), "t_min=0.0"),
        (lambda: VP(t_min=math.nan), "t_min=nan"),
        (lambda: VP(t_min=1e-2), "t_min=0.01, t_end=0.001"),
        (lambda: EDM(t_end=80.0), "EDM needs .*t_end=80.0"),
        (lambda: VE(sigma_min=0.0), "sigma_min=0.0"),
        (lambda: VE(sigma_min=2.0, sigma_max=1.0), "sigma_min=2.0, sigma_max=1.0"),
        (lambda: VP(beta_min=0.0), "VP needs 0 < beta_min <= beta_max; got beta_min=0.0"),
        (lambda: SubVP(beta_min=3.0, beta_max=2.0), "SubVP .*beta_min=3.0, beta_max=2.0"),
        (lambda: Power(1.0), "base > 1; got 1.0"),
        (lambda: Cosine(T=1.0), "Cosine needs T < 1.*T=1.0"),
        (lambda: Rectified(T=1.0), "Rectified needs T < 1.*T=1.0"),
        (lambda: LinearSDE(lambda t: t, lambda t: t, T=-1.0), "T=-1.0"),
        (lambda: NormalPrior(0.0), "got 0.0"),
        (lambda: NormalPrior(-1.0), "got -1.0"),
        (lambda: NormalPrior(math.nan), "got nan"),
    ],
)
def test_numbers_outside_their_range_are_an_error(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_constant_beta_is_the_ornstein_uhlenbeck_process():
    sde, t = VP(beta_min=2.0, beta_max=2.0), at(0.1, 0.5, 1)
    torch.testing.assert_close(sde.sigma(t) ** 2, -torch.expm1(-2 * t), rtol=1e-14, atol=0)
    torch.testing.assert_close(sde.time(sde.log_snr(t)), t, rtol=1e-13, atol=0)


class Brownian(GaussianSDE):
    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return t.sqrt()


def test_brownian_motion_has_unit_diffusion_from_the_start():
    sde = Brownian()
    assert float(sde.g(torch.tensor(0.0).double())) == pytest.approx(1, abs=1e-9)
    assert bool(torch.isfinite(sde.simulate(torch.zeros(1, 1), [0, 0.5, 1.0], noise=Noise.per_sample([0]))).all())


class Backwards(GaussianSDE):
    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return 2 - t


def test_a_process_that_loses_noise_is_refused():
    with pytest.raises(ValueError, match="must decrease in time"):
        Backwards().knots([1.0, 0.5])


def test_rates_that_cancel_at_the_end_are_integrated_in_between():
    sde = LinearSDE(
        lambda t: 20.0 * ((t - 0.3).abs() < 0.05) - 20.0 * ((t - 0.7).abs() < 0.05),
        lambda t: (t - 0.8).clamp(min=0) ** 4 * 1000,
    )
    try:
        alpha = float(sde.alpha(torch.tensor(0.5).double()))
    except ValueError as error:  # jumps may be refused, but never give a wrong number
        assert "do not converge" in str(error)
    else:
        assert alpha == pytest.approx(math.exp(2), rel=1e-9)
