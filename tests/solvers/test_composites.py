"""Single steps of reverse diffusion, consistent annealing, Restart and Churn, made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.processes import PROCESSES, name
from test_adaptive import cluster, solve, starts
from test_solvers import _Constant
from torch import Tensor

from scorefield import VP, GaussianSDE, ItoSDE, Knot, Noise, NormalPrior
from scorefield._response import Source, silence, unit_vector
from scorefield.sampling import integrate
from scorefield.solvers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    Churn,
    ConsistentAnnealed,
    Heun,
    Langevin,
    Restart,
    ReverseDiffusion,
    Solver,
    Step,
    UniPC,
)
from scorefield.solvers.solver import nth


class _Idle(Solver):
    """Keeps x / alpha, and remembers between which knots it was asked to move."""

    convergence_order = 1

    def __init__(self) -> None:
        self.moves: list[tuple[Knot, Knot]] = []

    def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
        self.moves.append((now, next))
        return Step(next.alpha / now.alpha * x)


def kernel(solver: Solver, now: Knot, next: Knot, sde: GaussianSDE) -> tuple[float, float, float]:
    """The factor of x, that of a constant D, and the standard deviation of the noise of one step."""
    names: dict[Any, int] = {}

    def run(x: Tensor, denoised: float, value: Any) -> Tensor:
        return solver.step(_Constant(sde, denoised), x, now, next, None, noise=Source(names, value)).x

    zero = torch.zeros(1, 1, dtype=torch.float64)
    at_rest = run(zero, 0.0, silence)
    assert float(at_rest) == 0
    noise = run(torch.zeros(1 + len(names), 1, dtype=torch.float64), 0.0, unit_vector)[1:]
    return float(run(zero + 1, 0.0, silence)), float(run(zero, 1.0, silence)), float(noise.norm())


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_reverse_diffusion_step(sde: GaussianSDE, eta: float) -> None:
    # the forward chain x_a = A x_b + G z turned around, x_b = x_a + f_rev: x - (A x - x) + (1 + eta)/2 G^2 s + ...
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    a = now.alpha / next.alpha
    g2 = now.sigma**2 - a**2 * next.sigma**2
    state, denoised, noise = kernel(ReverseDiffusion(eta), now, next, sde)
    score = 0.5 * (1 + eta) * g2  # times s = (alpha D - x) / sigma^2
    assert state == pytest.approx(2 - a - score / now.sigma**2, rel=1e-12)
    assert denoised == pytest.approx(score * now.alpha / now.sigma**2, rel=1e-12)
    assert noise == pytest.approx(math.sqrt(eta * g2), rel=1e-12)


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_consistent_annealed_sampling_is_ddim_and_ancestral_at_its_ends(sde: GaussianSDE) -> None:
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    ratio = math.exp(-0.85)  # s_b / s_a
    x, noise = starts(sde, 4, 2), Noise.per_sample(range(4))
    model = cluster(sde)
    for size, other in ((1 - ratio, DDIM()), (1 - ratio**2, Ancestral())):
        ours, theirs = (
            s.step(model, x, now, next, None, noise=noise).x / next.alpha for s in (ConsistentAnnealed(size), other)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    # whatever the size, the noise on D is that of the next level
    for size in (0.6, 0.8, 1.0):
        state, denoised, spread = kernel(ConsistentAnnealed(size), now, next, sde)
        assert state * now.alpha + denoised == pytest.approx(next.alpha, rel=1e-12)
        assert math.hypot(state * now.sigma, spread) == pytest.approx(next.sigma, rel=1e-12)
        assert denoised == pytest.approx(size * next.alpha, rel=1e-12)


def test_consistent_annealed_sampling_says_how_large_its_size_must_be() -> None:
    sde = VP()
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    with pytest.raises(ValueError, match=r"must remove at least 0.5726 of the noise; got size=0.5: take more steps"):
        kernel(ConsistentAnnealed(0.5), now, next, sde)
    assert 1 - math.exp(-0.85) == pytest.approx(0.5726, abs=5e-5)
    kernel(ConsistentAnnealed(0.5726 + 1e-4), now, next, sde)
    for size in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"size must lie in \(0, 1\]"):
            ConsistentAnnealed(size)


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
@pytest.mark.parametrize("solver", [Heun(), UniPC()], ids=str)
def test_a_restart_is_its_parts_made_by_hand(sde: GaussianSDE, solver: Solver) -> None:
    # parts of the noise: 0 the step itself, then for each round its noise and the steps of its descent
    model = cluster(sde)
    s = 0.15
    now, next, up = (sde.knot_at(-2 * math.log(v)) for v in (0.4, s, 0.9))
    x, noise = 0.5 * starts(sde, 4, 2), Noise.per_sample(range(4))
    restart = Restart(solver, low=0.2, high=0.9, repeats=2, steps=3)
    found = restart.step(model, x, now, next, None, noise=noise).x
    y = solver.step(model, x, now, next, None, noise=noise.child(0)).x
    levels = [(0.9 ** (1 / 7) + k / 3 * (s ** (1 / 7) - 0.9 ** (1 / 7))) ** 7 for k in range(4)]
    path = [sde.knot_at(-2 * math.log(v)) for v in levels]
    for first in (1, 5):
        y = up.alpha * (y / next.alpha + math.sqrt(0.9**2 - s**2) * noise.child(first).normal(y))
        state = None
        for k in range(3):
            y, state, *_ = solver.step(model, y, path[k], path[k + 1], state, noise=noise.child(first + 1 + k))
    torch.testing.assert_close(found / next.alpha, y / next.alpha, rtol=1e-9, atol=1e-9)
    # other steps are the solver's own
    above, below = (sde.knot_at(-2 * math.log(v)) for v in (0.6, 0.1))
    for a, b in ((above, now), (next, below)):
        step = restart.step(model, x, a, b, None, noise=noise).x
        assert torch.equal(step, solver.step(model, x, a, b, None, noise=noise.child(0)).x)


def test_a_restart_adds_the_variance_between_its_levels_each_time() -> None:
    sde, idle = VP(), _Idle()
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.4, 0.15))
    _, _, noise = kernel(Restart(idle, low=0.2, high=0.9, repeats=3, steps=4), now, next, sde)
    assert noise == pytest.approx(next.alpha * math.sqrt(3 * (0.9**2 - 0.15**2)), rel=1e-12)
    ladder = [math.exp(-a.log_snr / 14) for a, _ in idle.moves[1:5]] + [0.15 ** (1 / 7)]  # s^(1/7)
    assert np.diff(ladder, 2) == pytest.approx([0] * 3, abs=1e-9)
    assert ladder[0] == pytest.approx(0.9 ** (1 / 7))
    assert idle.moves[4][1] is next


def test_restart_needs_a_time_at_or_below_its_low() -> None:
    sde = VP()
    now, next = sde.knot_at(-2 * math.log(1.23)), sde.knots([0.0])[0]
    with pytest.raises(ValueError, match=r"no time with sigma / alpha <= 0.05; its last has 1.23"):
        Restart().step(cluster(sde), starts(sde, 2, 2), now, next, None, noise=Noise.per_sample(range(2)))
    # exactly at it is enough, and the step from there restarts no more
    times = [1.0, *(sde.knot_at(-2 * math.log(v)).t for v in (0.051, 0.05, 0.03)), 0.0]
    at = sde.knots(times)[2]
    idle = _Idle()
    restart = Restart(idle, low=at.sigma / at.alpha)
    integrate(_Constant(sde, 0.0), starts(sde, 2, 2), times, restart, noise=Source({}, silence))
    assert [b.t for _, b in idle.moves] == [*times[1:3], *2 * [*(b.t for _, b in idle.moves[2:4]), times[2]], times[3]]
    for options in ({"low": 0.0}, {"low": 0.4}, {"high": math.inf}, {"repeats": 0}, {"steps": 0}, {"repeats": 64}):
        with pytest.raises(ValueError, match="wanted"):
            Restart(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_churn_adds_noise_up_to_its_level_and_none_beyond_that_of_T(sde: GaussianSDE) -> None:
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.5, 0.3))
    for gamma, scale in ((0.3, 1.0), (0.1, 1.007)):
        idle = _Idle()
        _, _, noise = kernel(Churn(idle, gamma, noise_scale=scale), now, next, sde)
        assert noise == pytest.approx(next.alpha * scale * 0.5 * math.sqrt((1 + gamma) ** 2 - 1), rel=1e-9)
        up, to = idle.moves[0]
        assert up.sigma / up.alpha == pytest.approx(0.5 * (1 + gamma), rel=1e-9)
        assert to is next
    # below T by less than gamma: up to T
    (top,) = sde.knots([sde.T])
    widest = top.sigma / top.alpha
    now = sde.knot_at(-2 * math.log(widest / 1.1))
    _, _, noise = kernel(Churn(_Idle(), 0.3), now, next, sde)
    assert noise == pytest.approx(next.alpha * math.sqrt(widest**2 - (widest / 1.1) ** 2), rel=1e-6)
    # at T: none
    assert kernel(Churn(_Idle(), 0.3), top, next, sde)[2] == 0


def test_churn_without_gamma_or_outside_its_interval_is_the_solver() -> None:
    sde = VP()
    model, x, noise = cluster(sde), starts(sde, 4, 2), Noise.per_sample(range(4))
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.5, 0.3))
    plain = Heun().step(model, x, now, next, None, noise=noise).x
    for churn in (Churn(gamma=0.0), Churn(gamma=0.3, interval=(0.6, 9.0)), Churn(gamma=0.3, interval=(0.0, 0.4))):
        assert torch.equal(churn.step(model, x, now, next, None, noise=noise).x, plain)
    moved = Churn(gamma=0.3, interval=(0.4, 0.6)).step(model, x, now, next, None, noise=noise).x
    assert float((moved - plain).abs().min()) > 1e-3
    for bad in ({"gamma": -0.1}, {"gamma": math.inf}, {"noise_scale": 0.0}, {"interval": (1.0, 0.5)}):
        with pytest.raises(ValueError, match=r"wanted gamma|rising"):
            Churn(**bad)  # type: ignore[arg-type]


def test_a_restart_beyond_the_process_is_refused() -> None:
    with pytest.raises(ValueError, match=r"high must lie within the process, below sigma / alpha = 152.* got 500"):
        solve(cluster(VP()), starts(VP(), 2, 2), [1.0, 0.1, 0.001, 0.0], Restart(high=500.0))


def test_annealed_langevin_takes_processes_that_are_not_gaussian() -> None:
    # the law is N(0, 1) at all times, the chain is one of Langevin steps
    sde = ItoSDE(lambda x, t: -x, lambda x, t: math.sqrt(2), terminal=NormalPrior(1.0), T=2.0)

    class Normal:
        def __init__(self) -> None:
            self.sde = sde

        def score(self, x: Tensor, t: Tensor) -> Tensor:
            return -x

    noise, corrector = Noise.per_sample(range(3)), Langevin(0.3, length=1.0)
    x = noise.normal(torch.empty(3, 2, dtype=torch.float64))
    y = integrate(Normal(), x, [2.0, 1.0], AnnealedLangevin(corrector, 2), noise=noise)
    wanted, (knot,) = x, sde.knots([1.0])
    for k in range(2):
        wanted = corrector.step(Normal(), wanted, knot, knot, None, noise=nth(noise.at(1), k)).x
    assert torch.equal(y, wanted)
