"""The solver and the times of a model's samples, where the user leaves them open."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch

from scorefield._derivatives import unrecorded
from scorefield._noise import Noise
from scorefield.analytic import gaussian_map
from scorefield.grids import quadratic, uniform_log_snr
from scorefield.guidance import PosteriorDenoiser
from scorefield.processes import SDE, GaussianSDE
from scorefield.sampling import adaptive, default, integrate, stochastic
from scorefield.score import ScoreModule, placement
from scorefield.solvers import Solver
from scorefield.solvers.solver import check_solver

VARIANCES = (0.05, 1.0, 4.0)
ROWS = 200
TOO_WIDE = 3.0  # times: a standard deviation that speaks of steps that are too long
LONG = 500  # steps, so many of which no solver finds too long


def solving(
    model: ScoreModule, steps: int, solver: Solver | None, times: Sequence[float] | None, tolerance: float | None
) -> tuple[Solver, Sequence[float]]:
    """What `ScoreModel.sample` says of its arguments of these names."""
    sde = model.sde
    if tolerance is not None:
        if solver is not None or times is not None:
            raise ValueError("tolerance chooses an adaptive solver and its times: leave these two out")
        if not isinstance(sde, GaussianSDE):
            raise ValueError(f"tolerance is for Gaussian processes; got {type(sde).__name__}: give steps")
        return adaptive(sde, tolerance, placement(model)["dtype"])
    if solver is not None:
        check_solver(solver)
    if solver is None:
        count = steps if times is None else len(times) - 1
        if isinstance(model, PosteriorDenoiser):
            solver, usual = stochastic(model.sde, count, model.measurement.noise.least_std)
        else:
            solver, usual = default(sde, count)
    elif solver.adaptive:
        usual = [sde.T, sde.t_end, 0.0]
    else:
        usual = uniform_log_snr(sde, steps) if isinstance(sde, GaussianSDE) else quadratic(sde, steps)
    return solver, usual if times is None else times


def instability(solver: Solver, times: Sequence[float], sde: SDE) -> str | None:
    """What to tell a user whose solver needs shorter steps, on evidence of its samples of Gaussian data."""
    if solver.adaptive or not 2 <= len(times) <= LONG or not isinstance(sde, GaussianSDE):
        return None
    try:
        ratio = _spread(solver, tuple(times), sde)
    except TypeError:  # an object of somebody's that has no hash
        ratio = _spread.__wrapped__(solver, tuple(times), sde)
    if ratio <= TOO_WIDE:
        return None
    return (
        f"{type(solver).__name__} is unstable with {len(times) - 1} steps of this grid: its samples of Gaussian data "
        f"are {ratio:.2g} times too wide; take more steps, or a method that is stable for any, such as DPMSolverPP"
    )


@functools.lru_cache(maxsize=64)
@unrecorded()
def _spread(solver: Solver, times: tuple[float, ...], sde: GaussianSDE) -> float:
    """The largest ratio of a standard deviation to what it should be, over normal data of several variances.

    Of `ROWS` samples, which tells it to 5 %; 1 for a solver that does not take such data.
    """
    v = torch.tensor(VARIANCES, dtype=torch.float64)
    first, last = sde.knots([times[0], times[-1]])
    start, target = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in (first, last))
    noise = Noise.per_sample(range(ROWS))
    x = start * noise.at(0).normal(v.new_empty(ROWS, len(v)))
    try:
        model = gaussian_map(sde, torch.zeros(len(v)), v)
        y = integrate(model, x, times, solver.select(torch.arange(ROWS), ROWS), noise=noise)
    except Exception:  # a solver is anybody's code, and may be made for other events
        return 1.0
    return float((y.square().mean(0).sqrt() / target).nan_to_num(math.inf).max())
