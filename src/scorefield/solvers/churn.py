"""EDM's churn: a little noise before each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.heun import Heun
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Churn(Solver):
    """Adds noise up to s' = (1 + gamma) s, then steps from there  (Karras et al. 2022, algorithm 2).

        x'/alpha' = x/alpha + sqrt(s'^2 - s^2) noise_scale z,    s = sigma / alpha

    The paper's gamma is min(S_churn / N, sqrt(2) - 1) for N steps. No noise is added beyond the process's own at T, nor
    before the last step onto the data, where the paper adds some.

    Args:
        solver: a one-step method, by default the paper's.
        gamma: >= 0.
        interval: of s in which noise is added, the paper's [S_min, S_max].
        noise_scale: the paper's S_noise; for any other value than 1 the samples do not converge to the model's law.
    """

    solver: Solver = field(default_factory=Heun)
    gamma: float = math.sqrt(2) - 1
    interval: tuple[float, float] = (0.0, math.inf)
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.gamma < math.inf and 0 < self.noise_scale < math.inf):
            raise ValueError(f"wanted gamma >= 0 and noise_scale > 0; got {self.gamma} and {self.noise_scale}")
        if not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval must hold two rising values of sigma / alpha; got {self.interval}")

    @property
    def convergence_order(self) -> int:
        """The solver's, when gamma shrinks with the steps as S_churn / N does; at usual N errors fall more slowly."""
        return self.solver.convergence_order

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        sde, s = as_denoiser(model).sde, now.sigma / now.alpha
        if self.gamma and self.interval[0] <= s <= self.interval[1]:
            noisiest = sde.knots([sde.t_start])[0]
            higher = min((1 + self.gamma) * s, noisiest.sigma / noisiest.alpha)
            if higher > s:
                up = sde.knot_at(-2 * math.log(higher))
                added = up.alpha * self.noise_scale * math.sqrt(higher**2 - s**2)
                x = torch.add(up.alpha / now.alpha * x, noise.normal(x), alpha=added)
                now = up
        step = self.solver.step(model, x, now, next, None, noise=noise.child(0))
        if step.state is not None:
            raise ValueError(f"Churn needs a one-step method, such as Heun(); got {self.solver}, which remembers steps")
        return step
