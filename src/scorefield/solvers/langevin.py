"""Langevin dynamics at a fixed time: correctors for `PredictorCorrector`, or samplers by themselves (see `chain`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._inputs import matching
from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Corrector(Solver):
    """Moves states at the time of `next`, where they already are, towards or along its law.

    Args:
        snr: size of a step in units of the length below, > 0.
        length: that unit; by default sigma, which suits every noise level.
    """

    snr: float = 0.16
    length: float | None = None

    def __post_init__(self) -> None:
        for name, value in {"snr": self.snr, "length": self.length}.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive; got {value}")

    @property
    def convergence_order(self) -> int:
        """0: a corrector does not move in time."""
        return 0

    def unit(self, model: Score, knot: Knot) -> float:
        """The unit of length at a time."""
        if self.length is not None:
            return self.length
        if not knot.sigma > 0:
            raise ValueError(
                f"{type(self).__name__}: {type(model.sde).__name__} has no sigma at t = {knot.t} to set the step by: "
                "give `length`"
            )
        return knot.sigma


@dataclass(frozen=True)
class Langevin(Corrector):
    """x' = x + eps s + sqrt(2 eps) z at the time of `next`, eps = 2 (snr sigma)^2  (Song et al. 2021, algorithms 4-5).

    The unadjusted Langevin algorithm. The paper's eps = 2 (snr |z| / |s|)^2 with norms averaged over the batch, where a
    score of the noise, -eps / sigma, has |z| / |s| = sigma. Norms of each sample by itself would do for images, but in
    few dimensions |s| comes so near to 0 that the steps have no variance and the samples the wrong law. Their VP form
    has a further factor 1 - beta_i, which is near 1 and left out. On a Gaussian of variance v its stationary variance
    is v / (1 - eps / (2 v)); unstable for eps > 2 v.

    Args:
        snr: "signal-to-noise ratio" of the update, > 0: 0.16 for VE images in the literature.
        length: instead of sigma.
    """

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One update; `now.t == next.t` when the states are already where they shall be."""
        eps = 2 * (self.snr * self.unit(model, next)) ** 2
        y = torch.add(x, matching(model.score(x, next.time), x, model), alpha=eps)
        return Step(y.add_(noise.normal(x), alpha=math.sqrt(2 * eps)))


@dataclass(frozen=True)
class GradientAscent(Corrector):
    """x' = x + eps s, eps = 2 (snr sigma)^2: Langevin without noise. It climbs to a mode and does not sample.

    Args:
        snr: as of `Langevin`.
        length: instead of sigma.
    """

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One update."""
        return Step(
            torch.add(
                x, matching(model.score(x, next.time), x, model), alpha=2 * (self.snr * self.unit(model, next)) ** 2
            )
        )
