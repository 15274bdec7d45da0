"""Hamiltonian Monte Carlo and its one-step form, the Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened
from scorefield._inputs import matching
from scorefield._noise import NoiseSource
from scorefield._shapes import event_sum, expand
from scorefield.processes import Knot
from scorefield.score import LogDensity, Score
from scorefield.solvers.langevin import Corrector
from scorefield.solvers.solver import Step


class _Past(NamedTuple):
    """The score where the last step ended, which saves a call if nothing has moved the states since."""

    x: Tensor
    t: float
    score: Tensor


@dataclass(frozen=True)
class HMC(Corrector):
    """A path of the leapfrog method from a random momentum, accepted with probability min(1, exp(-dH))  (Neal 2011).

        p += h/2 s;  x += h p;  p += h/2 s  (`steps` times)        h = 2 snr sigma,  H = |p|^2 / 2 - log p(x)

    A model with `log_density` has the exact law for any step size. Of a plain score the change of log p is integrated
    along the path by the trapezoidal rule, sum (s_k + s_{k+1}) / 2 . (x_{k+1} - x_k): the law is *approximate*, exact
    only for Gaussians. `info["accepted"]` tells which samples moved.

    Args:
        snr: step size, > 0.
        length: instead of sigma.
        steps: of the leapfrog, >= 1.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One path."""
        past: _Past | None = state
        t, h = next.time, 2 * self.snr * self.unit(model, next)
        first = past.score if past and past.x is x and past.t == next.t else matching(model.score(x, t), x, model)
        start = p = noise.normal(x)
        y, score, climbed = x, first, widened(x.new_zeros(len(x)))
        for _ in range(self.steps):
            p = torch.add(p, score, alpha=0.5 * h)
            moved, before = h * p, score
            y = y + moved
            score = matching(model.score(y, t), y, model)
            climbed = climbed + 0.5 * event_sum(widened((before + score) * moved))
            p = torch.add(p, score, alpha=0.5 * h)
        if isinstance(model, LogDensity):
            climbed = widened(model.log_density(y, t)) - widened(model.log_density(x, t))
        log_ratio = climbed + 0.5 * event_sum(widened(start**2 - p**2))
        u = noise.uniform(climbed, draw=1)
        accepted = u.log() < log_ratio  # false for NaN: a path that diverged is refused
        mask = expand(accepted, x)
        y = torch.where(mask, y, x)
        return Step(y, _Past(y, next.t, torch.where(mask, score, first)), info={"accepted": accepted})


@dataclass(frozen=True)
class MALA(HMC):
    """The Metropolis-adjusted Langevin algorithm: a step of `Langevin`, accepted or refused  (Roberts & Tweedie 1996).

    HMC of a single leapfrog step, with its choice between exact and approximate.

    Args:
        snr: as of `Langevin`.
        length: instead of sigma.
    """

    steps: int = field(default=1, init=False, repr=False)
