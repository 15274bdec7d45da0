"""The exact law of a solver's output on Gaussian data, without Monte Carlo.

For x_0 ~ N(0, diag v) the denoiser is linear, D = alpha v / (alpha^2 v + sigma^2) x, and so is every step of a
fixed-grid solver in the state and its noise. The output is then a linear function of the start and of all noise drawn:
running the solver itself on the unit vectors of that space gives the coefficients, and their squares add up to the
variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise, NoiseSource
from scorefield.analytic import GaussianMixture
from scorefield.sampling import integrate
from scorefield.sde import GaussianSDE
from scorefield.solvers import Solver


class OutputLaw(NamedTuple):
    """Standard deviations of the independent components of an output that is N(0, diag std^2)."""

    std: Float[Tensor, "d"]
    target: Float[Tensor, "d"]

    @property
    def error(self) -> float:
        """Wasserstein-2 distance to the target, relative to the target's size."""
        return math.sqrt(float(((self.std - self.target) ** 2).sum() / (self.target**2).sum()))


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
    v = variances.double()
    model = GaussianMixture(sde, torch.ones(1), torch.zeros(1, len(v)), v[None])
    first, last = sde.knots([times[0], times[-1]])
    start, target = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in (first, last))

    names: dict[_Name, int] = {}
    integrate(model, torch.zeros(1, len(v), dtype=torch.float64), times, solver, noise=_Source(names, _silence))
    x = torch.zeros(1 + len(names), len(v), dtype=torch.float64)
    x[0] = start
    coefficients = integrate(model, x, times, solver, noise=_Source(names, _unit_vector))

    z = Noise.per_sample([0]).normal(x[None])[0]
    actual = integrate(model, z[:1] * start, times, solver, noise=_Source(names, lambda k, _: z[1 + k : 2 + k]))
    predicted = (z * coefficients).sum(0, keepdim=True)
    if not torch.allclose(actual, predicted, rtol=1e-8, atol=1e-10 * float(coefficients.abs().max())):
        raise ValueError(
            f"{solver} cannot be certified: its step is not a linear function of each component and its noise"
        )
    return OutputLaw(coefficients.norm(dim=0), target)


_Name = tuple[int, tuple[int, ...], int]


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

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        return self.value(self.numbers.setdefault((self.step, self.path, draw), len(self.numbers)), like)


def _silence(number: int, like: Tensor) -> Tensor:
    del number
    return torch.zeros_like(like)


def _unit_vector(number: int, like: Tensor) -> Tensor:
    z = torch.zeros_like(like)
    z[1 + number] = 1
    return z
