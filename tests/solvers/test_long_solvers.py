"""Solvers of processes that go on for longer than anything is left of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from helpers.processes import LONG, constant, name
from torch import Tensor

from scorefield import VP, GaussianSDE, LinearSDE, Noise, default, gaussian, grids, integrate, sample
from scorefield.certify import output_law
from scorefield.guidance import ClassifierFree, MomentMatching
from scorefield.operators import Gaussian, Mask
from scorefield.posterior import DAPS, FKSteering, REDdiff
from scorefield.sampling import stochastic
from scorefield.score import Denoiser
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

every_long = pytest.mark.parametrize("sde", LONG, ids=lambda sde: f"{name(sde)} {sde.T}")
# one at rest, one whose noise goes on to shrink, one with alpha(T) = 0
CUT = [LONG[2], LinearSDE(constant(-1.0), lambda t: (2 - t / 25).sqrt(), T=40.0), LONG[-1]]
every_cut = pytest.mark.parametrize("sde", CUT, ids=lambda sde: f"{name(sde)} {sde.T}")
several = pytest.mark.parametrize("sde", [LONG[2], LONG[-1]], ids=lambda sde: f"{name(sde)} {sde.T}")


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


def both(sde: GaussianSDE, draw: Callable[[GaussianSDE], Tensor]) -> None:
    """Samples are the same, up to the rounding of the times, if the process ends at t_start."""
    drawn, expected = draw(sde), draw(replace(sde, T=sde.t_start))
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
    assert float(drawn.abs().mean()) > 0.1


@every_cut
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_start_at_t_start(sde, solver):
    def draw(process: GaussianSDE) -> Tensor:
        model = gaussian(process, torch.ones(2), torch.tensor([1.0, 0.05]))
        return sample(model, (2,), grids.uniform_log_snr(process, 40), solver, seeds=range(5))

    both(sde, draw)


@every_cut
@pytest.mark.parametrize("calls", [3, 6, 20])
def test_guided_models_start_there_as_well(sde, calls):
    def draw(process: GaussianSDE) -> Tensor:
        conditional = gaussian(process, torch.ones(2), torch.tensor([0.3, 0.1]))
        guided = ClassifierFree(conditional, gaussian(process, torch.zeros(2), torch.ones(2)), 7.5)
        return sample(guided, (2,), *reversed(default(process, calls)), seeds=range(5))

    both(sde, draw)


MEASURED = Mask(torch.tensor([True, False])), torch.full((1, 1), 0.5), Gaussian(0.1)
POSTERIORS: dict[str, Callable[[Denoiser], Tensor]] = {
    "MomentMatching": lambda prior: sample(
        MomentMatching(prior, *MEASURED), (2,), *reversed(stochastic(prior.sde, 20, 0.1)), seeds=range(5)
    ),
    "DAPS": lambda prior: DAPS(prior, *MEASURED, levels=4).sample((2,), seeds=range(5)),
    "REDdiff": lambda prior: REDdiff(prior, *MEASURED, 20).sample((2,), seeds=range(5)),
    "FKSteering": lambda prior: FKSteering(prior, lambda x: x[:, 0], 60, 9).sample((2,), seeds=range(5)),
}


@every_cut
@pytest.mark.parametrize("method", POSTERIORS)
def test_posterior_methods_start_there_as_well(sde, method):
    both(sde, lambda process: POSTERIORS[method](gaussian(process, torch.zeros(2), torch.tensor([1.0, 0.5]))))


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
    sde = CUT[1]
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
