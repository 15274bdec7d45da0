"""Underdamped Langevin dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._inputs import matching
from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers.langevin import Corrector
from scorefield.solvers.solver import Step


class _Past(NamedTuple):
    """Momentum, and the score where the last step ended, which saves a call if nothing has moved the states since."""

    momentum: Tensor
    x: Tensor
    t: float
    score: Tensor


@dataclass(frozen=True)
class BAOAB(Corrector):
    """Langevin dynamics with momentum p of unit mass  (Leimkuhler & Matthews 2013, "BAOAB").

        p += h/2 s;  x += h/2 p;  p = c p + sqrt(1 - c^2) z;  x += h/2 p;  p += h/2 s        h = 2 snr sigma

    c = exp(-friction h / sigma). The variance of a Gaussian is exact for any stable step, h < 2 std, where `Langevin`
    of the same snr has a bias. One network call a step in a `chain`, one more after something else moved the states.

    Args:
        snr: step size, > 0.
        length: instead of sigma.
        friction: > 0, in units of 1 / sigma: small for long smooth paths, large for Langevin without momentum.
    """

    friction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.friction < math.inf:
            raise ValueError(f"friction must be positive; got {self.friction}")

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        past: _Past | None = state
        h = 2 * self.snr * self.unit(model, next)
        damping = math.exp(-2 * self.friction * self.snr)
        fresh = past is not None and past.x is x and past.t == next.t
        score = past.score if past and fresh else matching(model.score(x, next.time), x, model)
        momentum = past.momentum if past else noise.normal(x, draw=1)
        p = torch.add(momentum, score, alpha=0.5 * h)
        y = torch.add(x, p, alpha=0.5 * h)
        p = torch.add(damping * p, noise.normal(x), alpha=math.sqrt(-math.expm1(2 * math.log(damping))))
        y = y.add_(p, alpha=0.5 * h)
        score = matching(model.score(y, next.time), y, model)
        return Step(y, _Past(p.add_(score, alpha=0.5 * h), y, next.t, score))
