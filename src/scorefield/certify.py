"""The exact law of a solver's output on Gaussian data, without Monte Carlo.

For x_0 ~ N(0, diag v) the denoiser is linear, D = alpha v / (alpha^2 v + sigma^2) x, and so is every step of a
fixed-grid solver in the state and its noise, for each component of each sample by itself. The output is then a linear
function of the start and of all noise drawn: running the solver itself on the unit vectors of that space gives the
coefficients, and their squares add up to the variance. That it is such a function is not taken on trust: it is compared
with its coefficients on random numbers that differ in every row, component and draw, in batches of one, of five and of
48 or more samples. Solvers that couple samples or components, share noise among them, or are not linear, such as
adaptive ones and those that accept or refuse, are refused; what a solver does at other sizes alone is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield import grids
from scorefield._noise import NoiseSource
from scorefield._response import Response
from scorefield._response import Uncertified as Uncertified
from scorefield.analytic import GaussianMap, gaussian_map
from scorefield.processes import GaussianSDE
from scorefield.sampling import chain, integrate, network_calls
from scorefield.solvers import Solver

FEW = (0.05, 0.3, 1.0, 3.0)  # variances on which orders are measured
UNSTABLE = 3.0  # a standard deviation that is so many times its target speaks of steps that are too long
Grid = Callable[[GaussianSDE, int], list[float]]


class OutputLaw(NamedTuple):
    """Standard deviations of the independent components of an output that is N(0, diag std^2)."""

    std: Float[Tensor, "*event"]
    target: Float[Tensor, "*event"]

    @property
    def error(self) -> float:
        """Wasserstein-2 distance to the target, relative to the target's size."""
        return math.sqrt(float(((self.std - self.target) ** 2).sum() / (self.target**2).sum()))

    @property
    def spread(self) -> float:
        """Largest ratio of a standard deviation to its target; far above 1 for a solver that is unstable."""
        return float((self.std / self.target).nan_to_num(math.inf).max())


class Certificate(NamedTuple):
    """What `certify` finds: the order that the solver claims and has, and its laws for budgets of network calls."""

    claimed: int
    order: float
    budgets: tuple[int, ...]
    laws: tuple[OutputLaw, ...]


def natural_spectrum(components: int = 64) -> Float[Tensor, "d"]:
    """Variances that fall as 1 / k^2, as those of natural images and sounds do, with mean 1."""
    v = torch.arange(1, components + 1, dtype=torch.float64) ** -2
    return v / v.mean()


def certify(
    solver: Solver,
    sde: GaussianSDE,
    variances: Float[Tensor, "*event"] | None = None,
    *,
    budgets: Iterable[int] = (5, 8, 10, 15, 20, 35, 50, 100),
    grid: Grid = grids.uniform_log_snr,
) -> Certificate:
    """The order of a solver, and the exact law of its samples for budgets of network calls.

    Args:
        solver: any whose step is linear in the state and the noise.
        sde: the process.
        variances: of the data's independent components, `natural_spectrum()` by default; in the shape of an event, such
            as (3, 8, 8), for a solver that needs one.
        budgets: network calls for a sample, with the denoise step; those that are too small for a step, or for one that
            the solver takes, are left out.
        grid: from the process and the number of steps to times that end with 0.

    Raises:
        Uncertified: see `output_law`.
        ValueError: no budget allows a step.
    """
    v = natural_spectrum() if variances is None else variances
    event = *v.shape[:-1], max(v.shape[-1], len(FEW))  # which a solver may have been made for
    few = torch.tensor(FEW).repeat(math.prod(event))[: math.prod(event)].reshape(event)
    order, laws, refused = measured_order(solver, sde, variances=few), dict[int, OutputLaw](), ""
    for budget in budgets:
        if steps := steps_within(solver, sde, budget, v.shape):
            try:
                laws[budget] = output_law(solver, grid(sde, steps), sde, v)
            except Uncertified:
                raise
            except ValueError as error:  # a grid that is too coarse for the solver
                refused = f": {error}"
    if not laws:
        raise ValueError(f"none of the budgets {list(budgets)} allows {solver} a step{refused}")
    return Certificate(solver.convergence_order, order, tuple(laws), tuple(laws.values()))


def steps_within(solver: Solver, sde: GaussianSDE, budget: int, event_shape: Sequence[int] = (1,)) -> int:
    """The largest number of steps, of 2 and more, whose network calls are within a budget; 0 if there is none."""

    def fits(steps: int) -> bool:
        try:
            return network_calls(sde, grids.uniform_log_snr(sde, steps), solver, event_shape) <= budget
        except ValueError:  # a grid that is too coarse for the solver
            return True

    low, high = 1, max(1, budget)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low if low > 1 else 0


def measured_order(
    solver: Solver | Callable[[int], Solver],
    sde: GaussianSDE,
    *,
    steps: int = 24,
    grid: Grid | None = None,
    variances: Float[Tensor, "*event"] | None = None,
) -> float:
    """log2 of the error with `steps` steps over the error with twice as many, from the true law at the first time.

    Args:
        solver: a solver, or a function from the number of steps to one.
        sde: the process.
        steps: of the coarser grid.
        grid: of times that do not end with 0, so that the denoise step is not measured; `uneven_grid` by default.
        variances: of the data's components, by default several.
    """
    v = torch.tensor(FEW) if variances is None else variances
    grid = grid or uneven_grid
    coarse, fine = (
        output_law(solver if isinstance(solver, Solver) else solver(n), grid(sde, n), sde, v).error
        for n in (steps, 2 * steps)
    )
    return math.log2(coarse / fine) if min(coarse, fine) > 1e-13 else math.inf


def uneven_grid(sde: GaussianSDE, steps: int) -> list[float]:
    """Times where the solution bends, log-SNRs up to 2.3 in modulus, with gaps that grow and shrink smoothly."""
    low, high = max(-2.3, float(sde.log_snr(torch.tensor(sde.T, dtype=torch.float64)))), 2.3
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return sde.time(low + (high - low) * (u + 0.15 * (math.pi * u).sin() / math.pi)).tolist()


def output_law(
    solver: Solver, times: Sequence[float], sde: GaussianSDE, variances: Float[Tensor, "*event"]
) -> OutputLaw:
    """The law of the states at times[-1] when they start with the true law at times[0].

    Args:
        solver: any whose step is linear in the state and the noise, each component of each sample by itself.
        times: as for `integrate`.
        sde: the process.
        variances: of the independent components of the data.

    Raises:
        Uncertified: the solver chooses its steps, couples samples or components, shares noise among them, keeps
            something between calls, is not linear, or fails on states of this shape.
    """
    if solver.adaptive:
        raise Uncertified(f"{solver} cannot be certified: it chooses its own steps")
    v = _paired(variances)
    model = _centred(sde, v)
    first, last = sde.knots([times[0], times[-1]])
    start, target = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in (first, last))

    def move(x: Tensor, rows: Tensor, noise: NoiseSource) -> Tensor:
        return integrate(model, x, times, solver.select(rows, len(rows)), noise=noise)

    std = Response(solver, move, start).checked_coefficients().norm(dim=0)
    return OutputLaw(std[..., : variances.shape[-1]], target[..., : variances.shape[-1]])


def chain_law(
    corrector: Solver, steps: int, sde: GaussianSDE, t: float, variances: Float[Tensor, "*event"]
) -> OutputLaw:
    """The law after `steps` steps of a corrector at time t that start with the true law there.

    Args:
        corrector: a method at a fixed time whose step is linear, such as `Langevin` or `BAOAB`.
        steps: at least 1.
        sde: the process.
        t: the time.
        variances: of the data's independent components.

    Raises:
        Uncertified: see `output_law`.
    """
    v = _paired(variances)
    model, (knot,) = _centred(sde, v), sde.knots([t])
    std = (knot.alpha**2 * v + knot.sigma**2).sqrt()

    def move(x: Tensor, _: Tensor, noise: NoiseSource) -> Tensor:
        return chain(model, x, t, corrector, steps, noise=noise)

    found = Response(corrector, move, std).checked_coefficients().norm(dim=0)
    return OutputLaw(found[..., : variances.shape[-1]], std[..., : variances.shape[-1]])


def optimised_grid(solver: Solver, steps: int, sde: GaussianSDE, variances: Float[Tensor, "d"]) -> list[float]:
    """The times for which the solver's samples of Gaussian data have the least Wasserstein-2 error.

    The logarithm of the gaps of the log-SNR is a broken line with up to 8 corners, whose heights are found by L-BFGS
    from the best of the usual grids; the result is never worse than these.

    Args:
        solver: any whose step is linear.
        steps: of the grid, at least 2; the last is the denoise step.
        sde: the process.
        variances: of the data's independent components: their spectrum.
    """
    from scipy.optimize import minimize  # heavy, and nothing else here needs it

    if steps < 2:
        raise ValueError(f"a grid needs at least 2 steps to be optimised; got {steps}")
    v, corners = variances.double(), min(steps - 1, 8)
    model, size = _centred(sde, v), float(v.sum())
    ends = torch.tensor([sde.t_start, sde.t_min], dtype=torch.float64)
    low, high = sde.log_snr(ends).tolist()
    (noisiest,) = sde.knots([sde.T])
    start = (noisiest.alpha**2 * v + noisiest.sigma**2).sqrt()
    at, places = np.linspace(0, 1, corners), np.linspace(0, 1, steps - 1)

    def times(heights: Any) -> list[float]:
        gaps = np.exp(np.clip(np.interp(places, at, heights), -20, 20))
        log_snr = low + np.cumsum(gaps) * min(1.0, (high - low) / gaps.sum())
        return [sde.T, *sde.time(torch.from_numpy(log_snr)).clamp(sde.t_min, sde.t_start).tolist(), 0.0]

    def log_error(candidate: list[float]) -> float:
        response = Response(solver, lambda x, _, noise: integrate(model, x, candidate, solver, noise=noise), start)
        try:
            std = response.coefficients().norm(dim=0)
        except ValueError:  # a grid that the solver refuses
            return 50.0
        return 0.5 * math.log(float(((std - v.sqrt()) ** 2).sum()) / size + 1e-30)

    lasts = sde.time(-2 * torch.tensor([0.03, 0.1, 0.3], dtype=torch.float64).log()).clamp(sde.t_min, 0.9 * sde.t_start)
    makes = (grids.uniform_log_snr, grids.uniform_information, grids.karras, grids.uniform, grids.quadratic)
    known = [make(sde, steps, end) for make in makes for end in (sde.t_end, *lasts.tolist())]
    best = min(known, key=log_error)
    output_law(solver, best, sde, v)  # which refuses solvers that are not linear
    gaps = sde.log_snr(torch.tensor([sde.t_start, *best[1:-1]], dtype=torch.float64)).diff().log().numpy()
    first = np.interp(at, places, gaps)

    def objective(heights: Any) -> float:
        return log_error(times(heights))

    found: Any = minimize(objective, first, method="L-BFGS-B", options={"maxiter": 60})
    return min(best, times(first), times(found.x), key=log_error)


def _paired(variances: Tensor) -> Tensor:
    """In float64; a single one twice, so that what components share shows."""
    v = variances.double()
    return v if v.numel() > 1 else torch.cat((v, v), -1)


def _centred(sde: GaussianSDE, v: Tensor) -> GaussianMap:
    return gaussian_map(sde, torch.zeros(v.shape), v.flatten())
