"""Adaptive Runge-Kutta methods for the probability-flow ODE, with a step size for each sample."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import moved, widened
from scorefield._noise import NoiseSource
from scorefield._shapes import event_size, event_sum, expand, factor
from scorefield.processes import Knot
from scorefield.score import Denoiser, Score, as_denoiser
from scorefield.solvers.solver import Solver, Step

LONGEST = 10_000  # steps of one sample
Field = Callable[[Tensor, Tensor], Tensor]


class Tableau(NamedTuple):
    """Coefficients of an explicit embedded method whose last stage is the first of the next step."""

    order: int
    nodes: tuple[float, ...]  # c_i of the stages after the first
    stages: tuple[tuple[float, ...], ...]  # a_ij of the same; the last row makes the result
    error: tuple[float, ...]  # weights of the result less those of the embedded method


@dataclass(frozen=True)
class AdaptiveRungeKutta(Solver):
    """du/dtheta = (u cos(theta) - D) / sin(theta) with tan(theta) = sigma / alpha and u = x cos(theta) / alpha.

    u has unit variance at every time for data of unit variance, and the path is smooth in the angle theta from the
    noise (pi / 2) to the data (0): at equal error it takes half the calls of log(sigma / alpha). A step is accepted if
    the root mean square over the components of its error estimate / (tolerance (1 + |u|)) is at most 1. Each sample has
    its own step size and does not feel its batch-mates: the network sees all of the batch until the last has arrived,
    since its kernels round differently for other sizes. `info["calls"]` tells how many calls each sample has needed.
    Takes the whole way in one step of the grid: [T, end, 0].

    Args:
        tolerance: relative and absolute, in (0, 1); in float32 at least 1e-6. The error of the result is about as large
            with `BogackiShampine`; the long steps of `DormandPrince` can underrate it tens of times on narrow data.
    """

    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1); got {self.tolerance}")

    @property
    @abstractmethod
    def tableau(self) -> Tableau:
        """The method."""

    @property
    def convergence_order(self) -> int:
        """That of the method for steps of equal size."""
        return self.tableau.order

    @property
    def adaptive(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """All steps from one time to the other."""
        start, end = (math.atan2(knot.sigma, knot.alpha) for knot in (now, next))
        u, calls, _ = adapted(
            self.tableau,
            self.tolerance,
            functools.partial(angle_field, as_denoiser(model)),
            relative_error,
            (math.cos(start) / now.alpha) * x,
            start,
            end,
        )
        return Step((next.alpha / math.cos(end)) * u, info={"calls": calls})


def adapted(
    tableau: Tableau,
    tolerance: float,
    field: Field,
    size: Callable[[Tensor, Tensor, Tensor], Tensor],
    y: Float[Tensor, "b *event"],
    start: float,
    end: float,
    first: Float[Tensor, "b *event"] | None = None,
    tally: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The solution of dy/ds = field at `end` by steps of each sample's own size, the calls and the tally of each.

    Args:
        tableau: the method.
        tolerance: largest size of a step's estimated error.
        field: (place of each sample, states) -> slopes.
        size: (estimated error of a step, states before, states after) -> its size for each sample.
        y: states at `start`.
        start: where the way begins.
        end: where it ends, above or below.
        first: the field at the start, if it is known; it counts as a call.
        tally: (place after a step, its estimated error, states after, slopes there) -> what is summed over the steps.
    """
    calls, total = torch.ones(len(y), dtype=torch.int64), y.new_zeros(len(y))
    going = torch.ones_like(calls, dtype=torch.bool)
    place = torch.full((len(y),), start, dtype=torch.float64)
    step = torch.full_like(place, math.copysign(min(0.3, abs(end - start)), end - start))
    hopeless = tolerance < 1e-3 * torch.finfo(y.dtype).eps  # of which the rounding of a single step is a multiple
    slope = field(place, y) if first is None else first
    for _ in range(0 if hopeless else LONGEST):
        last = (place + step - end) * (end - start) >= -1e-12
        step = torch.where(last, end - place, step)  # 0 for those that have arrived
        h, slopes, z = factor(step, y), [slope], y
        for node, row in zip(tableau.nodes, tableau.stages, strict=True):
            z = y + h * combined(row, slopes)
            slopes.append(field(place + node * step, z))
        calls += len(tableau.nodes) * going
        change = h * combined(tableau.error, slopes)
        error = size(change, y, z).cpu() / tolerance
        good = going & (error <= 1)  # false for NaN
        if tally is not None:
            total = total + torch.where(moved(good, y.device), tally(place + step, change, z, slopes[-1]), 0.0)
        mask = moved(expand(good, y), y.device)
        y, slope = torch.where(mask, z, y), torch.where(mask, slopes[-1], slope)
        place = torch.where(good, place + step, place)
        going = going & ~(good & last)
        if not bool(going.any()):
            return y, calls.to(y.device), total
        growth = (0.9 * error.clamp_min(1e-10) ** (-1 / tableau.order)).clamp(0.2, 2.0)
        step = step * growth.nan_to_num(0.2)
        if float(torch.where(going, step.abs(), 1.0).min()) < 1e-13:
            break
    raise ValueError(
        f"the steps cannot meet the tolerance {tolerance}: raise it, or use float64; is the score finite everywhere?"
    )


def relative_error(change: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Root mean square over the components of change / (1 + |state|)."""
    relative = change / (1 + torch.maximum(before.abs(), after.abs()))
    return (event_sum(widened(relative) ** 2) / event_size(change)).sqrt()


def angle_field(denoiser: Denoiser, theta: Float[Tensor, "b"], u: Float[Tensor, "b *event"]) -> Tensor:
    """du/dtheta at an angle for each sample."""
    sde = denoiser.sde
    time = sde.time(-2 * theta.tan().log()).clamp_max(sde.T)
    cos, sin, scale = (factor(v, u) for v in (theta.cos(), theta.sin(), sde.alpha(time) / theta.cos()))
    return (u * cos - denoiser(scale * u, time)) / sin


def combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """The weighted sum of the slopes known so far."""
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=False):
        total = torch.add(total, slope, alpha=weight)
    return total


@dataclass(frozen=True)
class BogackiShampine(AdaptiveRungeKutta):
    """Order 3, with 3 calls a step  (Bogacki & Shampine 1989): keeps to its tolerance on narrow data too.

    Args:
        tolerance: relative and absolute, > 0.
    """

    @property
    def tableau(self) -> Tableau:
        """Of order 3(2)."""
        return Tableau(
            3,
            (1 / 2, 3 / 4, 1.0),
            ((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
            (2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        )


@dataclass(frozen=True)
class DormandPrince(AdaptiveRungeKutta):
    """Order 5, with 6 calls a step  (Dormand & Prince 1980): for tolerances below 1e-5.

    Args:
        tolerance: relative and absolute, > 0.
    """

    @property
    def tableau(self) -> Tableau:
        """Of order 5(4)."""
        return Tableau(
            5,
            (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
            (
                (1 / 5,),
                (3 / 40, 9 / 40),
                (44 / 45, -56 / 15, 32 / 9),
                (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
                (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
                (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
            ),
            (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
        )
