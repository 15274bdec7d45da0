"""The solver and the times of a model's samples, where the user leaves them open."""

from __future__ import annotations

from collections.abc import Sequence

from scorefield.grids import quadratic, uniform_log_snr
from scorefield.guidance import PosteriorDenoiser
from scorefield.processes import GaussianSDE
from scorefield.sampling import adaptive, default, stochastic
from scorefield.score import ScoreModule
from scorefield.solvers import Solver
from scorefield.solvers.solver import check_solver


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
        return adaptive(sde, tolerance)
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
