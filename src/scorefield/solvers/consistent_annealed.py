"""Consistent annealed sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.solver import Solver, Step, tau_step


@dataclass(frozen=True)
class ConsistentAnnealed(Solver):
    """Annealed Langevin steps that leave the noise of the next level  (Jolicoeur-Martineau et al. 2021, algorithm 2).

        y' = D + (1 - size) (y - D) + sqrt(s_b^2 - (1 - size)^2 s_a^2) z,    y = x / alpha,  s = sigma / alpha

    The step removes the share `size` of the noise, and adds as much as s_b then lacks. size = 1 - s_b / s_a is DDIM,
    1 - (s_b / s_a)^2 ancestral sampling. A size that stays while the grid is refined leaves a bias: it must shrink.

    Args:
        size: share of the noise that a step removes, in (0, 1], at least 1 - s_b / s_a on all of the grid.
    """

    size: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ValueError(f"size must lie in (0, 1]; got {self.size}")

    @property
    def convergence_order(self) -> int:
        """1 when `size` shrinks with the steps."""
        return 1

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        tau_step(now, next, eta=1.0)
        s_a, s_b, kept = now.sigma / now.alpha, next.sigma / next.alpha, 1 - self.size
        if kept * s_a > s_b * (1 + 1e-9):
            raise ValueError(
                f"ConsistentAnnealed: a step from sigma / alpha = {s_a:.4g} to {s_b:.4g} must remove at least "
                f"{1 - s_b / s_a:.4g} of the noise; got size={self.size}: take more steps or a larger size"
            )
        y = torch.add(
            (kept * next.alpha / now.alpha) * x, as_denoiser(model)(x, now.time), alpha=self.size * next.alpha
        )
        missing = next.alpha * math.sqrt(max(0.0, s_b**2 - (kept * s_a) ** 2))
        return Step(y.add_(noise.normal(x), alpha=missing))
