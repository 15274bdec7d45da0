"""Langevin dynamics at a fixed time: a corrector for `PredictorCorrector`, or a sampler by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.score import Score
from scorefield.sde import Knot
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Langevin(Solver):
    """x' = x + eps s + sqrt(2 eps) z at the time of `next`, eps = 2 (snr sigma)^2  (Song et al. 2021, algorithms 4-5).

    The paper's eps = 2 (snr |z| / |s|)^2 with norms averaged over the batch, where a score of the noise, -eps / sigma,
    has |z| / |s| = sigma. Norms of each sample by itself would do for images, but in few dimensions |s| comes so near
    to 0 that the steps have no variance and the samples the wrong law. Their VP form has a further factor 1 - beta_i,
    which is near 1 and left out.

    Args:
        snr: "signal-to-noise ratio" of the update, > 0: 0.16 for VE images in the literature.
    """

    snr: float = 0.16

    def __post_init__(self) -> None:
        if not self.snr > 0:
            raise ValueError(f"snr must be positive; got {self.snr}")

    @property
    def convergence_order(self) -> int:
        """0: a corrector does not move in time."""
        return 0

    @property
    def calls(self) -> int:
        """1."""
        return 1

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One update; `now.t == next.t` when the states are already where they shall be."""
        if math.isnan(next.sigma):
            raise ValueError(f"Langevin's step is set by sigma, which {type(model.sde).__name__} does not have")
        eps = 2 * (self.snr * next.sigma) ** 2
        y = torch.add(x, model.score(x, next.time), alpha=eps)
        return Step(y.add_(noise.normal(x), alpha=math.sqrt(2 * eps)))
