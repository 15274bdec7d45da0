"""Restart sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.heun import Heun
from scorefield.solvers.solver import Solver, Step, advance


@dataclass(frozen=True)
class Restart(Solver):
    """Goes up by noise and down by the solver again, some times  (Xu et al. 2023, "Restart sampling", algorithm 1).

    At the first time of the grid with s = sigma / alpha <= low, `repeats` times: noise is added up to s = high by the
    forward process, and the solver comes back in `steps` steps, equal in s^(1/7) as EDM's. The noise contracts the
    error that the solver had made; what remains is that of the descents. Wrap one in another for several intervals.

    Args:
        solver: any method, by default the paper's.
        low: the paper's t_min, > 0; the grid must have a time there or below it, other than 0.
        high: the paper's t_max, > low.
        repeats: the paper's K, >= 1.
        steps: of each descent, >= 1.
    """

    solver: Solver = field(default_factory=Heun)
    low: float = 0.05
    high: float = 0.3
    repeats: int = 2
    steps: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"wanted 0 < low < high; got {self.low} and {self.high}")
        if not (self.repeats >= 1 and self.steps >= 1 and self.repeats * (self.steps + 1) < CHILDREN):
            raise ValueError(
                f"wanted repeats and steps of at least 1, repeats x (steps + 1) below {CHILDREN}; "
                f"got {self.repeats} and {self.steps}"
            )

    @property
    def convergence_order(self) -> int:
        """The solver's, when `steps` grows with those of the grid."""
        return self.solver.convergence_order

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step, with the restarts if it is the one that comes to `low`."""
        s_now, s_next = (knot.sigma / knot.alpha for knot in (now, next))
        if s_next == 0 and s_now > self.low:
            raise ValueError(
                f"Restart: the grid has no time with sigma / alpha <= {self.low}; its last has {s_now:.3g}"
            )
        result = advance(self.solver, model, x, now, next, state, noise=noise.child(0))
        if not s_next <= self.low < s_now:
            return result
        sde, y = as_denoiser(model).sde, result.x
        noisiest = sde.knots([sde.t_start])[0]
        if self.high > noisiest.sigma / noisiest.alpha:
            raise ValueError(
                f"Restart: high must lie within the process, below sigma / alpha = "
                f"{noisiest.sigma / noisiest.alpha:.4g} at T; got {self.high}"
            )
        ends = self.high ** (1 / 7), s_next ** (1 / 7)
        inner = (ends[0] + (ends[1] - ends[0]) * k / self.steps for k in range(self.steps))
        knots = [*(sde.knot_at(-14 * math.log(v)) for v in inner), next]
        up, memory = knots[0], None
        for repeat in range(self.repeats):
            first = 1 + repeat * (self.steps + 1)  # of the parts of the noise that this round uses
            z, memory = noise.child(first).normal(y), None
            y = torch.add(up.alpha / next.alpha * y, z, alpha=up.alpha * math.sqrt(self.high**2 - s_next**2))
            for k, (a, b) in enumerate(pairwise(knots), start=first + 1):
                y, memory, *_ = self.solver.step(model, y, a, b, memory, noise=noise.child(k))
        return Step(y, memory)
