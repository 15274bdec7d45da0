"""Processes whose noise depends on the state: order of the paths, the slope of g, and Anderson's divergence term."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scorefield import SDE, VE, VP, ItoSDE, Knot, Noise, gaussian, grids, sample
from scorefield.sampling import integrate
from scorefield.solvers import EulerMaruyama, Milstein, Solver
from scorefield.solvers.euler_maruyama import diffusion_and_slope

SOLVERS = [EulerMaruyama, Milstein]
either = pytest.mark.parametrize("make", SOLVERS, ids=["EulerMaruyama", "Milstein"])


@dataclasses.dataclass
class Known:
    """A score in closed form, without a denoiser."""

    sde: SDE
    function: Callable[[Tensor, Tensor], Tensor]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        return self.function(x, t)


@dataclasses.dataclass
class Increments:
    """The noise of one Brownian path, whose fine increments are (n, b), in steps of `per` of them."""

    fine: Tensor
    per: int
    step: int = 0

    def at(self, step: int) -> Increments:
        return Increments(self.fine, self.per, step)

    def child(self, part: int) -> Increments:
        raise AssertionError("one draw a step")

    def select(self, rows: Tensor) -> Increments:
        return Increments(self.fine[:, rows], self.per, self.step)

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        h = self.per / len(self.fine)  # of a path of length 1
        return self.fine[(self.step - 1) * self.per : self.step * self.per].sum(0).reshape(like.shape) / math.sqrt(h)

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        raise AssertionError("normals alone")


@dataclasses.dataclass
class Given:
    """Noise with these values."""

    z: Tensor

    def at(self, step: int) -> Given:
        return self

    def child(self, part: int) -> Given:
        return self

    def select(self, rows: Tensor) -> Given:
        return Given(self.z[rows])

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        return self.z.expand_as(like)

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        raise AssertionError("normals alone")


# Geometric Brownian motion dx = MU x dt + S x dw from log x_0 ~ N(0, Q): log x_t ~ N(m, q) at all times
MU, S, Q = 0.3, 0.6, 0.25


def log_law(t: Any) -> tuple[Any, Any]:
    return (MU - 0.5 * S**2) * t, Q + S**2 * t


def geometric() -> Known:
    def score(x: Tensor, t: Tensor) -> Tensor:
        m, q = log_law(t)
        return -(1 + (x.log() - m) / q) / x

    return Known(ItoSDE(f=lambda x, t: MU * x, g=lambda x, t: S * x, T=1.5), score)


def exact_path(x: Tensor, now: float, next: float, eta: float, dw: Tensor) -> Tensor:
    """The end of the path that noise eta and the increments dw make of x.

    In w = log x - m the equation is linear, dw = k S^2 w / q dt + sqrt(eta) S dW with k = (1 + eta) / 2 backwards and
    (1 - eta) / 2 forwards in time, and its solution w_b = q_b^k (w_a / q_a^k + sqrt(eta) S int q^-k dW).
    """
    k = 0.5 * (1 - math.copysign(eta, next - now))
    t = torch.linspace(now, next, 2 * len(dw) + 1, dtype=torch.float64)[1::2]  # midpoints
    integral = (log_law(t)[1] ** -k) @ dw
    (m_a, q_a), (m_b, q_b) = log_law(now), log_law(next)
    return (m_b + q_b**k * ((x.log() - m_a) / q_a**k + math.sqrt(eta) * S * integral)).exp()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize(("now", "next"), [(0.2, 1.2), (1.2, 0.2)], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("solver", "order"), [(EulerMaruyama, 0.5), (Milstein, 1.0)], ids=["Euler", "Milstein"])
def test_strong_order_on_one_brownian_path(
    solver: Callable[[float], Solver], order: float, now: float, next: float, eta: float
) -> None:
    # the root mean square error of n paths at the end is known to about 5 %, the order to 0.02; a wrong factor, sign or
    # power of eta in Milstein's term makes it 1/2, a drift without the divergence term 0
    n, fine = 1_000, 1024
    g = torch.Generator().manual_seed(0)
    dw = math.sqrt(1 / fine) * torch.randn(fine, n, generator=g, dtype=torch.float64)
    m, q = log_law(now)
    x = (m + math.sqrt(q) * torch.randn(n, generator=g, dtype=torch.float64)).exp()
    exact = exact_path(x, now, next, eta, dw)
    errors = []
    for steps in (16, 64, 256):
        times = torch.linspace(now, next, steps + 1, dtype=torch.float64).tolist()
        y = integrate(geometric(), x, times, solver(eta), noise=Increments(dw, fine // steps))
        errors.append(float((y / exact - 1).square().mean().sqrt()))
    slopes = [math.log2(one / other) / 2 for one, other in pairwise(errors)]
    assert slopes[1] == pytest.approx(order, abs=0.1)
    assert errors[2] < (0.04 if order == 0.5 else 0.006)


@either
def test_one_step_on_geometric_brownian_motion(make: Any) -> None:
    model, eta = geometric(), 0.7
    now, next = model.sde.knots([0.9, 0.8])
    h, g = -0.1, torch.Generator().manual_seed(1)
    x = torch.randn(20, generator=g, dtype=torch.float64).exp()
    z = torch.randn(20, generator=g, dtype=torch.float64)
    y = make(eta).step(model, x, now, next, None, noise=Given(z)).x
    m, q = log_law(0.9)
    # g^2 s + d(g^2)/dx = S^2 x (2 - 1 - (log x - m) / q)
    drift = MU - 0.85 * S**2 * (1 - (x.log() - m) / q)
    factor = 1 + h * drift + S * math.sqrt(eta * 0.1) * z
    if make is Milstein:
        factor = factor + 0.5 * eta * S**2 * 0.1 * (z**2 - 1)
    torch.testing.assert_close(y, x * factor, rtol=1e-12, atol=0)


@pytest.mark.usefixtures("unchecked")
@either
def test_the_probability_flow_of_geometric_brownian_motion(make: Any) -> None:
    # the exact map keeps (log x - m) / sqrt(q); the error is of order 1
    model = geometric()
    x = torch.linspace(0.3, 4, 30, dtype=torch.float64)
    (m_a, q_a), (m_b, q_b) = log_law(1.2), log_law(0.2)
    exact = (m_b + math.sqrt(q_b / q_a) * (x.log() - m_a)).exp()
    errors = []
    for steps in (50, 100):
        times = torch.linspace(1.2, 0.2, steps + 1, dtype=torch.float64).tolist()
        y = integrate(model, x, times, make(0.0), noise=Noise.per_sample(range(30)))
        errors.append(float((y - exact).abs().max()))
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("eta", [1.0, 0.4])
def test_the_reverse_process_takes_a_log_normal_law_back_in_time(eta: float) -> None:
    # log x_t ~ N(m, q) at 0.2 from its law at 1.2. Of n samples the mean errs by sqrt(q / n), the variance by
    # q sqrt(2 / n), with 4.9 of them at 1e-6; 64 Milstein steps leave a bias of less than a percent
    n, model = 20_000, geometric()
    noise = Noise.per_sample(range(n))
    (m_a, q_a), (m_b, q_b) = log_law(1.2), log_law(0.2)
    x = (m_a + math.sqrt(q_a) * noise.at(0).normal(torch.empty(n, dtype=torch.float64))).exp()
    times = torch.linspace(1.2, 0.2, 65, dtype=torch.float64).tolist()
    y = integrate(model, x, times, Milstein(eta), noise=noise).log()
    assert abs(float(y.mean()) - m_b) < 4.9 * math.sqrt(q_b / n) + 0.01
    assert float(y.var()) / q_b == pytest.approx(1, abs=4.9 * math.sqrt(2 / n) + 0.02)


# ---- stationary processes, which run backwards as they run forwards


def feller() -> tuple[Known, Any]:
    """Cox, Ingersoll and Ross: dx = 2 (1.5 - x) dt + 0.8 sqrt(x) dw, at its Gamma law."""
    k, m, c = 2.0, 1.5, 0.8
    shape, rate = 2 * k * m / c**2, 2 * k / c**2
    sde = ItoSDE(
        f=lambda x, t: k * (m - x), g=lambda x, t: c * x.sqrt(), terminal=Stationary(stats.gamma(shape, 0, 1 / rate))
    )
    return Known(sde, lambda x, t: (shape - 1) / x - rate), sde.terminal


def jacobi() -> tuple[Known, Any]:
    """dx = 1.5 (0.4 - x) dt + 0.5 sqrt(x (1 - x)) dw, at its Beta law."""
    k, m, c = 1.5, 0.4, 0.5
    p, q = 2 * k * m / c**2, 2 * k * (1 - m) / c**2
    sde = ItoSDE(
        f=lambda x, t: k * (m - x), g=lambda x, t: c * (x * (1 - x)).sqrt(), terminal=Stationary(stats.beta(p, q))
    )
    return Known(sde, lambda x, t: (p - 1) / x - (q - 1) / (1 - x)), sde.terminal


def pearson() -> tuple[Known, Any]:
    """dx = -4 x dt + sqrt(1 + x^2) dw, at its law, Student's t of 9 degrees of freedom over 3."""
    sde = ItoSDE(f=lambda x, t: -4 * x, g=lambda x, t: (1 + x**2).sqrt(), terminal=Stationary(stats.t(9, 0, 1 / 3)))
    return Known(sde, lambda x, t: -10 * x / (1 + x**2)), sde.terminal


@dataclasses.dataclass(frozen=True)
class Stationary:
    """One of SciPy's laws as a prior."""

    law: Any

    def sample(self, like: Tensor, noise: Any) -> Tensor:
        u = torch.special.ndtr(noise.normal(like.double())).numpy()
        return torch.from_numpy(self.law.ppf(u)).to(like)

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.law.logpdf(x.numpy())).reshape(len(x), -1).sum(1)


every_stationary = pytest.mark.parametrize("process", [feller, jacobi, pearson])


@every_stationary
def test_the_scores_here_are_those_of_the_laws_and_the_laws_are_stationary(process: Any) -> None:
    # no current: f p = (g^2 p)' / 2, that is 2 f = g^2 s + (g^2)'
    model, prior = process()
    x = torch.from_numpy(prior.law.ppf(np.linspace(0.01, 0.99, 50)))
    t, e = torch.tensor(0.5, dtype=torch.float64), 1e-6
    slope = torch.from_numpy(prior.law.logpdf(x + e) - prior.law.logpdf(x - e)) / (2 * e)
    torch.testing.assert_close(model.score(x, t), slope, rtol=1e-5, atol=1e-5)
    g2 = [model.sde.diffusion(v, t) ** 2 for v in (x - e, x, x + e)]
    current = 2 * model.sde.drift(x, t) - g2[1] * model.score(x, t) - (g2[2] - g2[0]) / (2 * e)
    torch.testing.assert_close(current, torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-7)


@either
@every_stationary
def test_a_stationary_process_makes_the_same_step_in_both_directions(process: Any, make: Any) -> None:
    # Anderson's reverse drift f - g^2 s - (g^2)' is -f at stationarity: without the divergence term, or with half of
    # it, the step would be another
    model, prior = process()
    x = torch.from_numpy(prior.law.ppf(np.linspace(0.02, 0.98, 40)))
    z = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    early, late = model.sde.knots([0.5, 0.52])
    for eta in (1.0, 0.3):
        forwards = make(eta).step(model, x, early, late, None, noise=Given(z)).x
        backwards = make(eta).step(model, x, late, early, None, noise=Given(z)).x
        torch.testing.assert_close(forwards, backwards, rtol=1e-12, atol=1e-13)
        # the drift of noise eta is eta times that of the process
        assert float((forwards - x).abs().mean()) > 1e-3
        middle = make(eta).step(model, x, late, early, None, noise=Given(0 * z)).x
        correction = 0.0
        if make is Milstein:
            correction = -0.5 * eta * 0.02 * _half_slope_of_square(model, x)
        torch.testing.assert_close(middle, x + 0.02 * eta * model.sde.drift(x, early.time) + correction)
    # the probability flow does not move at all
    still = make(0.0).step(model, x, late, early, None, noise=Given(z)).x
    torch.testing.assert_close(still, x, rtol=1e-13, atol=1e-14)


def _half_slope_of_square(model: Known, x: Tensor) -> Tensor:
    """g dg/dx = d(g^2)/dx / 2 by differences."""
    t, e = torch.tensor(0.5, dtype=torch.float64), 1e-5
    upper, lower = (model.sde.diffusion(x + s * e, t) ** 2 for s in (1, -1))
    return (upper - lower) / (4 * e)


@pytest.mark.usefixtures("unchecked")
@either
@every_stationary
def test_sampling_a_stationary_process_backwards_keeps_its_law(process: Any, make: Any) -> None:
    # Kolmogorov's distance of n samples exceeds sqrt(log(2 / 1e-6) / (2 n)) with probability 1e-6, to which the method
    # adds its own at 64 steps. Without the divergence term it is more than 0.2
    model, prior = process()
    n = 10_000
    x = sample(model, (), grids.uniform(model.sde, 64)[:-1], make(), seeds=range(n))
    found = stats.kstest(x.double().numpy(), prior.law.cdf).statistic
    assert found < math.sqrt(math.log(2e6) / (2 * n)) + 0.02


@pytest.mark.usefixtures("unchecked")
@either
def test_moments_of_the_feller_process_in_time(make: Any) -> None:
    # E x' and E x'^2 of one step are polynomials in E x and E x^2, exact for any step; sampled with 4.9 standard errors
    model, prior = feller()
    k, m, c, n, steps = 2.0, 1.5, 0.8, 20_000, 25
    times = torch.linspace(1, 0.5, steps + 1, dtype=torch.float64).tolist()
    h = 0.5 / steps
    start = 0.5 * torch.from_numpy(prior.law.rvs(n, random_state=np.random.default_rng(0)))  # away from stationarity
    x = integrate(model, start, times, make(), noise=Noise.per_sample(range(n)))
    mean, square = float(start.mean()), float((start**2).mean())
    for _ in range(steps):
        square = (1 - k * h) ** 2 * square + (2 * (1 - k * h) * k * h * m + c**2 * h) * mean + (k * h * m) ** 2
        square += c**4 * h**2 / 8 if make is Milstein else 0.0
        mean += k * h * (m - mean)
    for values, expected in ((x, mean), (x**2, square)):
        assert abs(float(values.mean()) - expected) < 4.9 * float(values.std()) / math.sqrt(n)


# ---- the slope of g, and processes where there is none


def test_the_slope_of_the_diffusion_is_its_derivative() -> None:
    x = torch.linspace(0.1, 3, 12, dtype=torch.float64).reshape(4, 3)
    t = torch.tensor(0.5, dtype=torch.float64)

    def of(g: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Any]:
        return diffusion_and_slope(ItoSDE(f=lambda x, t: -x, g=g), x, t)

    for function, value, slope in (
        (lambda x, t: 0.8 * x.sqrt(), 0.8 * x.sqrt(), 0.4 / x.sqrt()),
        (lambda x, t: (1 + t * x**2).sqrt(), (1 + 0.5 * x**2).sqrt(), 0.5 * x / (1 + 0.5 * x**2).sqrt()),
        (lambda x, t: 2 * x, 2 * x, torch.full_like(x, 2.0)),
    ):
        found, derivative = of(function)
        torch.testing.assert_close(found, value, rtol=1e-14, atol=0)
        torch.testing.assert_close(derivative, slope, rtol=1e-13, atol=0)
        assert not found.requires_grad
        assert not derivative.requires_grad
    for constant in (lambda x, t: t.sqrt(), lambda x, t: torch.ones(4, 1), lambda x, t: torch.full_like(x, 0.3)):
        assert of(constant)[1] == 0.0
    assert diffusion_and_slope(VE(), x, t)[1] == 0.0


@either
def test_gradients_pass_through_a_step_and_the_slope(make: Any) -> None:
    # with the score -3 / x every step on x^1 is proportional to x, and so its derivative is the ratio
    sde = ItoSDE(f=lambda x, t: MU * x, g=lambda x, t: S * x)
    z = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    x = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    y = make().step(Known(sde, lambda x, t: -3 / x), x, Knot(0.5), Knot(0.4), None, noise=Given(z)).x
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, y / x)
    # a slope that itself depends on x: against differences
    model, _ = pearson()

    def step(x: Tensor) -> Tensor:
        return make().step(model, x, Knot(0.5), Knot(0.4), None, noise=Given(z)).x

    (gradient,) = torch.autograd.grad(step(x).sum(), x)
    with torch.no_grad():
        differences = (step(x + 1e-6) - step(x - 1e-6)) / 2e-6
    torch.testing.assert_close(gradient, differences, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("times", [[0.9, 0.8, 0.6], [0.3, 0.4, 0.6]], ids=["backwards", "forwards"])
def test_without_a_slope_milstein_is_euler_maruyama(eta: float, times: list[float]) -> None:
    noise = Noise.per_sample(range(5))
    x = noise.normal(torch.empty(5, 2, dtype=torch.float64))
    for sde in (VP(), VE()):
        model = gaussian(sde, torch.zeros(2), torch.tensor([0.3, 2.0]))
        affine = Known(ItoSDE(f=sde.drift, g=sde.diffusion), model.score)
        first = integrate(model, x, times, EulerMaruyama(eta), noise=noise)  # through the denoiser
        for score, make in ((model, Milstein), (affine, Milstein), (affine, EulerMaruyama)):
            other = integrate(score, x, times, make(eta), noise=noise)
            torch.testing.assert_close(other, first, rtol=1e-11, atol=1e-11)


def test_forwards_with_all_its_noise_euler_maruyama_is_the_simulation_of_the_process() -> None:
    model = geometric()
    x = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    dw = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / math.sqrt(8)
    times = torch.linspace(0.3, 1.3, 9, dtype=torch.float64).tolist()
    y = integrate(model, x, times, EulerMaruyama(), noise=Increments(dw, 1))

    class Later(Increments):
        def at(self, step: int) -> Increments:  # `simulate` counts from 0
            return Increments(self.fine, self.per, step + 1)

    torch.testing.assert_close(y, model.sde.simulate(x, times, noise=Later(dw, 1))[-1], rtol=1e-13, atol=0)


@either
@pytest.mark.parametrize("eta", [-0.1, math.nan, math.inf])
def test_bad_noise_is_refused(make: Any, eta: float) -> None:
    with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
        make(eta)


def test_diffusions_may_be_plain_numbers_or_have_parameters() -> None:
    p = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    x, t = torch.ones(3, 2, dtype=torch.float64), torch.tensor(0.5)
    for g in (lambda x, t: 0.75, lambda x, t: p * (1 + t)):
        value, slope = diffusion_and_slope(ItoSDE(lambda x, t: -x, g), x, t)
        assert float(value) == 0.75 and float(torch.as_tensor(slope).abs().max()) == 0
