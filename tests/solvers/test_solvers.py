"""Orders, exact laws and one-step kernels: no Monte Carlo where a closed form will do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from helpers.processes import PROCESSES, name
from torch import Tensor

from scorefield import EDM, VE, VP, GaussianSDE, Knot, Noise, gaussian, grids, sample
from scorefield.certify import output_law, uneven_grid
from scorefield.sampling import integrate, network_calls
from scorefield.score import Denoiser
from scorefield.solvers import (
    BAOAB,
    DDIM,
    DEIS,
    HMC,
    IPNDM,
    LMS,
    MALA,
    RK4,
    SRA1,
    AdaptiveSDE,
    Ancestral,
    AnnealedLangevin,
    BogackiShampine,
    Churn,
    ConsistentAnnealed,
    DormandPrince,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialAdams,
    ExponentialTwoStage,
    Heun,
    Langevin,
    Milstein,
    PredictorCorrector,
    Restart,
    ReverseDiffusion,
    SASolver,
    ShARK,
    Solver,
    Step,
    StochasticHeun,
    UniPC,
)
from scorefield.solvers.exponential import ExponentialSolver

VARIANCES = torch.tensor([0.05, 0.3, 1.0, 3.0])
SOLVERS: list[Solver] = [
    EulerMaruyama(),
    EulerMaruyama(0.5),
    EulerMaruyama(0.0),
    Heun(),
    RK4(),
    DDIM(),
    Ancestral(),
    DPMSolverPP(),
    DPMSolverPP(2, eta=1.0),
    DPMSolverPP(2, eta=0.5),
    UniPC(1),
    UniPC(2),
    UniPC(3),
    SASolver(1, interval=(0.0, math.inf)),
    ExponentialAdams(2, corrector=False),
    ExponentialAdams(1, corrector=False, sigma_data=math.inf),
    ExponentialAdams(2, corrector=False, sigma_data=math.inf, eta=1.0),
    ReverseDiffusion(),
    Milstein(0.5),
    StochasticHeun(),
    SRA1(),
    ShARK(0.5),
    ExponentialTwoStage(),
    ExponentialTwoStage(1.0, fraction=0.7),
    IPNDM(),
    DEIS(),
    LMS(),
]
COMPOSITES: list[Solver] = [
    Churn(gamma=0.1),
    Restart(low=0.2, high=1.0),
    ConsistentAnnealed(0.95),
    PredictorCorrector(DDIM(), Langevin()),
    PredictorCorrector(EulerMaruyama(), Langevin(), corrections=2, corrector_first=True),
    PredictorCorrector(UniPC(), BAOAB(), corrections=2),
    AnnealedLangevin(steps=3),
]
NONLINEAR: list[Solver] = [
    PredictorCorrector(DDIM(), MALA()),
    PredictorCorrector(DDIM(), HMC(steps=3), corrections=2),
    BogackiShampine(1e-4),
    DormandPrince(1e-5),
    AdaptiveSDE(),
]


@pytest.mark.parametrize("solver", [Heun(), RK4(), DDIM(), DPMSolverPP(), EulerMaruyama(0.0)], ids=str)
def test_ode_solvers_run_from_data_to_noise_as_well(solver: Solver) -> None:
    # RK4 at 200 steps is exact to 1e-8 here, the others to their order
    times = uneven_grid(VP(), 200)[::-1]
    assert output_law(solver, times, VP(), VARIANCES).error < 4.0 * (5.0 / 200) ** solver.convergence_order


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_ancestral_step_is_the_gaussian_posterior(sde: GaussianSDE) -> None:
    # one step given D: Bayes' rule for x_b given x_a and x_0, the only test that sees a wrong eta
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    coefs = _one_step(Ancestral(), now, next, sde)
    ratio = now.alpha / next.alpha
    forward = now.sigma**2 - ratio**2 * next.sigma**2
    assert coefs.state == pytest.approx(ratio * next.sigma**2 / now.sigma**2, rel=1e-12)
    assert coefs.denoised == pytest.approx(next.alpha * forward / now.sigma**2, rel=1e-12)
    assert coefs.noise == pytest.approx(math.sqrt(forward) * next.sigma / now.sigma, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_data_of_the_assumed_variance_are_sampled_exactly_by_any_steps(sde: GaussianSDE, eta: float) -> None:
    solver = ExponentialAdams(2, eta=eta, sigma_data=0.8)
    low, v = float(sde.log_snr(torch.tensor(sde.T, dtype=torch.float64))), torch.tensor([0.64], dtype=torch.float64)
    times = [float(t) for t in sde.time(torch.tensor([low, 0.6 * low + 1.0, 4.0], dtype=torch.float64))]
    assert output_law(solver, times, sde, v).error < 1e-12


@pytest.mark.parametrize(("order", "expected"), [(1, 2), (2, 4), (3, 4)])
@pytest.mark.parametrize("sigma_data", [0.5, math.inf])
def test_the_last_step_onto_the_data_errs_by_the_fourth_power_of_s(
    order: int, expected: int, sigma_data: float
) -> None:
    # against the exact ODE; with no earlier value it is the denoise step, which errs by s^2
    sde, v = EDM(), VARIANCES.double()
    model = gaussian(sde, torch.zeros(4), v)
    solver = ExponentialAdams(order, corrector=False, sigma_data=sigma_data)

    def error(end: float) -> float:
        knots = sde.knots([4 * end, 2.5 * end, 1.5 * end, end, 0.0])
        exact = [(k.alpha**2 * v + k.sigma**2).sqrt()[None] for k in knots]
        state, y = None, exact[0]
        for x, (now, next) in zip(exact, pairwise(knots), strict=False):
            y, state, *_ = solver.step(model, x, now, next, state, noise=Noise.per_sample([0]))
        return float((y - exact[-1]).norm())

    assert math.log2(error(0.01) / error(0.005)) == pytest.approx(expected, abs=0.1)


def test_the_last_step_takes_a_value_far_enough_not_to_multiply_errors() -> None:
    # by many short steps: a line through D at s and 1.01 s would multiply a wrong D by 50, through 2 s by 1/3
    sde = EDM()
    knots = sde.knots([*(0.1 * 1.01**k for k in (70, 35, 1, 0)), 0.0])
    solver, state = ExponentialAdams(4, corrector=False), None
    for k, (now, next) in enumerate(pairwise(knots)):
        wrong = _Constant(sde, 1e-3 * (k == 3))
        y, state, *_ = solver.step(wrong, torch.zeros(1, 1), now, next, state, noise=Noise.per_sample([0]))
    assert float(y) == pytest.approx(1e-3 * (1 + 1 / (1.01**140 - 1)), rel=1e-6)


def test_eta_counts_only_in_its_interval() -> None:
    sde = EDM()
    inside, outside = sde.knots([0.9, 0.5]), sde.knots([1.5, 0.9])
    solver = SASolver(1)
    assert _one_step(solver, *inside, sde).noise > 0.1
    assert _one_step(solver, *outside, sde).noise == 0


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_exponential_step_solves_the_reverse_sde_for_a_constant_denoiser(eta: float) -> None:
    # against 20,000 Euler-Maruyama steps of d xbar = (1 + eta)(D - xbar) dtau + sqrt(2 eta) sbar dW
    now, next = (VE().knot_at(v) for v in (-1.0, 0.7))
    state, denoised, variance, sbar = 1.0, 0.0, 0.0, now.sigma
    n = 20_000
    h = (next.log_snr - now.log_snr) / 2 / n
    for k in range(n):
        state, denoised = state * (1 - (1 + eta) * h), denoised + (1 + eta) * h * (1 - denoised)
        variance = variance * (1 - (1 + eta) * h) ** 2 + 2 * eta * h * (sbar * math.exp(-(k + 0.5) * h)) ** 2
    coefs = _one_step(ExponentialAdams(1, corrector=False, eta=eta, sigma_data=0.0), now, next, VE())
    assert coefs.state == pytest.approx(state, rel=1e-3)
    assert coefs.denoised == pytest.approx(denoised, rel=1e-3)
    assert coefs.noise == pytest.approx(math.sqrt(variance), rel=1e-3)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_euler_maruyama_step(eta: float) -> None:
    now, next = VP().knots([0.6, 0.55])
    coefs, h, beta = _one_step(EulerMaruyama(eta), now, next, VP()), 0.05, 0.1 + 19.9 * 0.6
    share = (1 + eta) / 2 * beta / now.sigma**2
    assert coefs.state == pytest.approx(1 + h * (beta / 2 - share), rel=1e-12)
    assert coefs.denoised == pytest.approx(h * share * now.alpha, rel=1e-12)
    assert coefs.noise == pytest.approx(math.sqrt(eta * beta * h), rel=1e-12)


def test_langevin_step() -> None:
    sde, snr = VP(), 0.2
    model = gaussian(sde, torch.zeros(3), torch.eye(3))
    now, next = sde.knots([0.5, 0.4])
    noise = Noise.per_sample([7, 8])
    x = torch.tensor([[1.0, 2.0, 3.0], [-10.0, 0.0, 30.0]], dtype=torch.float64)
    y = Langevin(snr).step(model, x, now, next, None, noise=noise).x
    eps = 2 * (snr * next.sigma) ** 2
    torch.testing.assert_close(y, (1 - eps) * x + math.sqrt(2 * eps) * noise.normal(x))  # N(0, 1) stays so under VP


@pytest.mark.parametrize("corrector_first", [False, True])
@pytest.mark.parametrize(
    "sde", [pytest.param(sde, marks=() if k < 2 else pytest.mark.slow) for k, sde in enumerate(PROCESSES)], ids=name
)
def test_predictor_corrector_comes_to_the_law_of_the_data(sde: GaussianSDE, corrector_first: bool) -> None:
    # steps scaled by the norms of single samples have no variance in few dimensions: the law would be far off
    solver = PredictorCorrector(DDIM(), Langevin(), corrector_first=corrector_first)
    errors = [output_law(solver, grids.uniform_log_snr(sde, n), sde, VARIANCES).error for n in (50, 100, 200)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_predictor_corrector_makes_its_steps_in_order() -> None:
    sde = VP()
    model = gaussian(sde, torch.zeros(2), torch.eye(2))
    now, next = sde.knots([0.5, 0.4])
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    noise = Noise.per_sample([3])
    predictor, corrector = EulerMaruyama(), Langevin()
    y = predictor.step(model, x, now, next, None, noise=noise.child(0)).x
    for k in (1, 2):
        y = corrector.step(model, y, now, next, None, noise=noise.child(k)).x
    last = PredictorCorrector(predictor, corrector, corrections=2).step(model, x, now, next, None, noise=noise)
    assert torch.equal(last.x, y)
    y = corrector.step(model, x, now, now, None, noise=noise.child(1)).x
    y = predictor.step(model, y, now, next, None, noise=noise.child(0)).x
    first = PredictorCorrector(predictor, corrector, corrector_first=True)
    assert torch.equal(first.step(model, x, now, next, None, noise=noise).x, y)


def test_unipc_keeps_what_a_langevin_corrector_does() -> None:
    # the repaired step is an increment: with a corrector of tiny steps nothing may change
    sde = VP()
    model = gaussian(sde, torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    plain, composed = (
        sample(model, (2,), grids.uniform_log_snr(sde, 12), s, seeds=range(8))
        for s in (UniPC(), PredictorCorrector(UniPC(), Langevin(1e-7)))
    )
    torch.testing.assert_close(plain, composed, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", [*SOLVERS, *COMPOSITES, *NONLINEAR], ids=str)
def test_a_sample_is_the_same_in_every_shape_precision_and_company(solver: Solver) -> None:
    sde = VP()
    times = grids.karras(sde, 12)
    flat = _draw(solver, sde, (192,), times, range(5))
    for shape in ((3, 8, 8), (1, 192), (64, 3)):
        assert torch.equal(_draw(solver, sde, shape, times, range(5)).flatten(1), flat)
    assert torch.equal(_draw(solver, sde, (192,), times, [4, 2]), flat[[4, 2]])
    single = _draw(solver, sde, (192,), times, range(5), torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), flat, rtol=0, atol=5e-4)
    scalar = _draw(solver, sde, (), times, range(5))
    torch.testing.assert_close(scalar, _draw(solver, sde, (1,), times, range(5))[:, 0])


@pytest.mark.parametrize("solver", [*SOLVERS, *COMPOSITES], ids=str)
def test_network_calls_are_counted_truthfully(solver: Solver) -> None:
    sde = VP()
    model = _Counting(sde)
    times = grids.karras(sde, 7)
    sample(model, (2,), times, solver, seeds=range(3))
    assert model.calls == network_calls(sde, times, solver)
    model.calls = 0
    integrate(model, torch.ones(1, 2), times[:-1], solver, noise=Noise.per_sample([0]))
    assert model.calls == network_calls(sde, times[:-1], solver)


@pytest.mark.parametrize(
    "solver",
    [s for s in SOLVERS if isinstance(s, ExponentialSolver) and s.order < 3 and s.sigma_data == 0],
    ids=str,
)
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_stable_with_few_steps(solver: Solver, sde: GaussianSDE) -> None:
    for steps in (2, 3, 5, 10):
        law = output_law(solver, grids.karras(sde, steps), sde, VARIANCES)
        assert bool((law.std <= 3 * law.target).all()), steps


class _Sine(Solver):
    """A step that is not linear."""

    convergence_order = 1

    def step(self, model, x, now, next, state, *, noise):
        return Step(DDIM().step(model, x.sin(), now, next, None, noise=noise).x)


class _Mean(Solver):
    """A step that mixes components."""

    convergence_order = 1

    def step(self, model, x, now, next, state, *, noise):
        y = DDIM().step(model, x, now, next, None, noise=noise).x
        return Step(y.mean(1, keepdim=True).expand_as(y))


@pytest.mark.parametrize(
    ("solver", "reason"),
    [(_Sine(), "not a linear function of each component"), (_Mean(), "depends on other components")],
)
def test_certification_refuses_steps_that_are_not_linear_in_each_component(solver: Solver, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        output_law(solver, [0.5, 0.4, 0.3], VP(), VARIANCES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EulerMaruyama(-0.1), "eta must be at least 0"),
        (lambda: ExponentialAdams(0), "order must be"),
        (lambda: ExponentialAdams(eta=math.nan), "at least 0; got nan"),
        (lambda: ExponentialAdams(sigma_data=-1.0), "at least 0; got 0.0 and -1.0"),
        (lambda: ExponentialAdams(interval=(1.0, 0.5)), "rising"),
        (lambda: Langevin(0.0), "snr must be positive"),
        (lambda: PredictorCorrector(DDIM(), Langevin(), 0), "corrections must lie"),
    ],
)
def test_bad_numbers_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


class _Coefficients:
    """y = state x + denoised D + noise z, read off three runs of a step."""

    def __init__(self, state: float, denoised: float, noise: float) -> None:
        self.state, self.denoised, self.noise = state, denoised, noise


class _Constant(Denoiser):
    def __init__(self, sde: GaussianSDE, value: float) -> None:
        super().__init__(sde)
        self.value = value

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class _Counting(_Constant):
    def __init__(self, sde: GaussianSDE) -> None:
        super().__init__(sde, 0.0)
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return 0.5 * x


def _one_step(solver: Solver, now: Knot, next: Knot, sde: GaussianSDE) -> _Coefficients:
    noise = Noise.per_sample([5])
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)

    def run(x: Tensor, denoised: float) -> float:
        return float(solver.step(_Constant(sde, denoised), x, now, next, None, noise=noise).x)

    at_rest = run(zero, 0.0)
    return _Coefficients(run(one, 0.0) - at_rest, run(zero, 1.0) - at_rest, at_rest / float(noise.normal(one)))


def _draw(
    solver: Solver,
    sde: GaussianSDE,
    shape: tuple[int, ...],
    times: list[float],
    seeds: object,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    model = gaussian(sde, torch.full(shape, 0.3), torch.tensor(0.5)).to(dtype)
    return sample(model, shape, times, solver, seeds=seeds)  # type: ignore[arg-type]
