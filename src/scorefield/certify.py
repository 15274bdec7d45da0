"""The exact law of a solver's output on Gaussian data, without Monte Carlo.

For x_0 ~ N(0, diag v) the denoiser is linear, D = alpha v / (alpha^2 v + sigma^2) x, and so is every step of a
fixed-grid solver in the state and its noise. The output is then a linear function of the start and of all noise drawn:
running the solver itself on the unit vectors of that space gives the coefficients, and their squares add up to the
variance. Solvers whose step is not linear, such as adaptive ones and those that accept or refuse, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield import grids
from scorefield._noise import Noise, NoiseSource
from scorefield.analytic import gaussian
from scorefield.processes import GaussianSDE
from scorefield.sampling import chain, integrate, network_calls
from scorefield.solvers import Solver

UNSTABLE = 3.0  # a standard deviation that is so many times its target speaks of steps that are too long
Grid = Callable[[GaussianSDE, int], list[float]]


class OutputLaw(NamedTuple):
    """Standard deviations of the independent components of an output that is N(0, diag std^2)."""

    std: Float[Tensor, "d"]
    target: Float[Tensor, "d"]

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
    variances: Float[Tensor, "d"] | None = None,
    *,
    budgets: Iterable[int] = (5, 8, 10, 15, 20, 35, 50, 100),
    grid: Grid = grids.uniform_log_snr,
) -> Certificate:
    """The order of a solver, and the exact law of its samples for budgets of network calls.

    Args:
        solver: any whose step is linear in the state and the noise.
        sde: the process.
        variances: of the data's independent components, `natural_spectrum()` by default.
        budgets: network calls for a sample, with the denoise step; those that are too small for a step, or for one that
            the solver takes, are left out.
        grid: from the process and the number of steps to times that end with 0.
    """
    v = natural_spectrum() if variances is None else variances
    order, laws, refused = measured_order(solver, sde), dict[int, OutputLaw](), ""
    for budget in budgets:
        if steps := steps_within(solver, sde, budget):
            try:
                laws[budget] = output_law(solver, grid(sde, steps), sde, v)
            except ValueError as error:
                refused = f": {error}"
    if not laws:
        raise ValueError(f"none of the budgets {list(budgets)} allows {solver} a step{refused}")
    return Certificate(solver.convergence_order, order, tuple(laws), tuple(laws.values()))


def steps_within(solver: Solver, sde: GaussianSDE, budget: int) -> int:
    """The largest number of steps, of 2 and more, whose network calls are within a budget; 0 if there is none."""

    def fits(steps: int) -> bool:
        try:
            return network_calls(sde, grids.uniform_log_snr(sde, steps), solver) <= budget
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
    variances: Float[Tensor, "d"] | None = None,
) -> float:
    """log2 of the error with `steps` steps over the error with twice as many, from the true law at the first time.

    Args:
        solver: a solver, or a function from the number of steps to one.
        sde: the process.
        steps: of the coarser grid.
        grid: of times that do not end with 0, so that the denoise step is not measured; `uneven_grid` by default.
        variances: of the data's components, by default several.
    """
    v = torch.tensor([0.05, 0.3, 1.0, 3.0]) if variances is None else variances
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


def output_law(solver: Solver, times: Sequence[float], sde: GaussianSDE, variances: Float[Tensor, "d"]) -> OutputLaw:
    """The law of the states at times[-1] when they start with the true law at times[0].

    Args:
        solver: any whose step is linear in the state and the noise, each component by itself; others are refused.
        times: as for `integrate`.
        sde: the process.
        variances: of the independent components of the data.

    Raises:
        ValueError: the solver's step is not linear, or mixes components.
    """
    if solver.adaptive:
        raise ValueError(f"{solver} cannot be certified: it chooses its own steps")
    v = variances.double()
    model = gaussian(sde, torch.zeros(len(v)), v)
    first, last = sde.knots([times[0], times[-1]])
    start, target = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in (first, last))

    def run(x: Tensor, noise: NoiseSource) -> Tensor:
        return integrate(model, x, times, solver, noise=noise)

    return OutputLaw(_certified(run, start, solver), target)


def chain_law(corrector: Solver, steps: int, sde: GaussianSDE, t: float, variances: Float[Tensor, "d"]) -> OutputLaw:
    """The law after `steps` steps of a corrector at time t that start with the true law there.

    Args:
        corrector: a method at a fixed time whose step is linear, such as `Langevin` or `BAOAB`.
        steps: at least 1.
        sde: the process.
        t: the time.
        variances: of the data's independent components.
    """
    v = variances.double()
    model, (knot,) = gaussian(sde, torch.zeros(len(v)), v), sde.knots([t])
    std = (knot.alpha**2 * v + knot.sigma**2).sqrt()

    def run(x: Tensor, noise: NoiseSource) -> Tensor:
        return chain(model, x, t, corrector, steps, noise=noise)

    return OutputLaw(_certified(run, std, corrector), std)


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
    model, size = gaussian(sde, torch.zeros(len(v)), v), float(v.sum())
    ends = torch.tensor([sde.T, sde.t_min], dtype=torch.float64)
    low, high = sde.log_snr(ends).tolist()
    start = (sde.alpha(ends[0]) ** 2 * v + sde.sigma(ends[0]) ** 2).sqrt()
    at, places = np.linspace(0, 1, corners), np.linspace(0, 1, steps - 1)

    def times(heights: Any) -> list[float]:
        gaps = np.exp(np.clip(np.interp(places, at, heights), -20, 20))
        log_snr = low + np.cumsum(gaps) * min(1.0, (high - low) / gaps.sum())
        return [sde.T, *sde.time(torch.from_numpy(log_snr)).clamp(sde.t_min, sde.T).tolist(), 0.0]

    def log_error(candidate: list[float]) -> float:
        try:
            law, _ = _coefficients(lambda x, noise: integrate(model, x, candidate, solver, noise=noise), start)
        except ValueError:  # a grid that the solver refuses
            return 50.0
        return 0.5 * math.log(float(((law.norm(dim=0) - v.sqrt()) ** 2).sum()) / size + 1e-30)

    lasts = sde.time(-2 * torch.tensor([0.03, 0.1, 0.3], dtype=torch.float64).log()).clamp(sde.t_min, 0.9 * sde.T)
    makes = (grids.uniform_log_snr, grids.uniform_information, grids.karras, grids.uniform, grids.quadratic)
    known = [make(sde, steps, end) for make in makes for end in (sde.t_end, *lasts.tolist())]
    best = min(known, key=log_error)
    output_law(solver, best, sde, v)  # which refuses solvers that are not linear
    gaps = sde.log_snr(torch.tensor(best[:-1], dtype=torch.float64)).diff().log().numpy()
    first = np.interp(at, places, gaps)

    def objective(heights: Any) -> float:
        return log_error(times(heights))

    found: Any = minimize(objective, first, method="L-BFGS-B", options={"maxiter": 60})
    return min(best, times(first), times(found.x), key=log_error)


def _certified(run: _Run, start: Tensor, solver: Solver) -> Tensor:
    """Standard deviations of what `run` makes of N(0, diag start^2), after a check that it is linear."""
    coefficients, names = _coefficients(run, start)
    z = Noise.per_sample([0]).normal(coefficients[None])[0]
    actual = run(z[:1] * start, _Source(names, lambda k, _: z[1 + k : 2 + k]))
    predicted = (z * coefficients).sum(0, keepdim=True)
    rounding = 1e-10 * float(coefficients.abs().max()) + 1e-12 * float(start.max())
    if not torch.allclose(actual, predicted, rtol=1e-8, atol=rounding):
        raise ValueError(
            f"{solver} cannot be certified: its step is not a linear function of each component and its noise"
        )
    return coefficients.norm(dim=0)


def _coefficients(run: _Run, start: Tensor) -> tuple[Tensor, dict[_Name, int]]:
    """What the unit vectors of the start (the first row) and of every draw of noise become, and the draws' numbers."""
    names: dict[_Name, int] = {}
    run(torch.zeros_like(start)[None], _Source(names, _silence))
    return run(torch.cat((start[None], start.new_zeros(len(names), len(start)))), _Source(names, _unit_vector)), names


_Name = tuple[int, tuple[int, ...], int]
_Run = Callable[[Tensor, NoiseSource], Tensor]


@dataclass(frozen=True)
class _Source(NoiseSource):
    """Noise whose value is a function of the number of the draw, counted by name."""

    numbers: dict[_Name, int]
    value: Callable[[int, Tensor], Tensor]
    step: int = 0
    path: tuple[int, ...] = ()

    def at(self, step: int) -> _Source:
        return replace(self, step=step)

    def child(self, part: int) -> _Source:
        return replace(self, path=(*self.path, part))

    def select(self, rows: Tensor) -> _Source:
        raise ValueError("a solver that treats samples differently, as adaptive ones do, cannot be certified")

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        raise ValueError("a solver that accepts and refuses at random cannot be certified")

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        return self.value(self.numbers.setdefault((self.step, self.path, draw), len(self.numbers)), like)


def _silence(number: int, like: Tensor) -> Tensor:
    del number
    return torch.zeros_like(like)


def _unit_vector(number: int, like: Tensor) -> Tensor:
    z = torch.zeros_like(like)
    z[1 + number] = 1
    return z
