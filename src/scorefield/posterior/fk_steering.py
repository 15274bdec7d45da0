"""Feynman-Kac steering."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance import Label
from scorefield.guidance.twist import Twisted, foreseen
from scorefield.posterior.particles import PLAIN, ParticleSampler
from scorefield.score import Denoiser
from scorefield.solvers import Solver


class FKSteering(ParticleSampler):
    """Samples p(x_0) exp(reward(x_0)) for any reward, which need have no gradient  (Singhal et al. 2025).

    Particles take the prior's own steps and are weighted by how the potential changes,

        psi = exp(reward(D) / (1 + doubt)),    doubt = mean of |reward(D + r u) - reward(D)| over the cloud

    with r u of the size of what noise hides (see `guidance.twist.foreseen`). The paper's "difference" potential, which
    is that of no doubt, is as right in the limit of many particles, but far from it with thousands where the reward is
    sharp: between two modes it prefers the states whose mean D is a good sample by chance, and the cloud is soon one of
    copies of few. The reward is asked twice in each step.

    Args:
        denoiser: of the prior.
        reward: clean samples (b, *event) in the model's space -> (b,); the paper's lambda is a factor of it. -inf where
            there shall be none.
        count: number of particles, >= 1; as many as samples if that is more.
        steps: of the grid, >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
        solver: of the prior's steps, any; by default the reverse SDE by exponential Adams of order 1.
    """

    label: ClassVar[Label] = Label.ASYMPTOTICALLY_EXACT

    def __init__(
        self,
        denoiser: Denoiser,
        reward: Callable[[Tensor], Tensor],
        count: int = 500,
        steps: int = 100,
        threshold: float = 0.5,
        solver: Solver = PLAIN,
    ) -> None:
        super().__init__(denoiser, _Reward(denoiser, reward), count, steps, threshold, solver)


class _Reward:
    """The prior's own steps; the twist is exp(reward(D)), in doubt."""

    def __init__(self, denoiser: Denoiser, reward: Callable[[Tensor], Tensor]) -> None:
        self.denoiser, self.reward = denoiser, reward

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor) -> Twisted:
        denoised = self.denoiser(x, t)
        return Twisted(denoised, None, *foreseen(self.log_target, self.denoiser.sde, x, t, denoised))

    def log_target(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        value = self.reward(x0)
        if value.shape != (len(x0),):
            raise ValueError(f"the reward must be one number for each of {len(x0)} samples; got {tuple(value.shape)}")
        return value
