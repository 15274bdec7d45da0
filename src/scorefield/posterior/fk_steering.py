"""Feynman-Kac steering."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance import Label
from scorefield.guidance.twist import Twisted
from scorefield.posterior.particles import ParticleSampler
from scorefield.processes import GaussianSDE
from scorefield.score import Denoiser


class FKSteering(ParticleSampler):
    """Samples p(x_0) exp(reward(x_0)) for any reward, which need have no gradient  (Singhal et al. 2025).

    Particles take steps of the prior's reverse SDE and are weighted by how the reward of their D changes, the paper's
    "difference" potential. Where the reward of D is -inf a particle is lost for good, though it might still have come
    to a better end: the samples then have the law only of those whose D was never refused.

    Args:
        denoiser: of the prior.
        reward: clean samples (b, *event) in the model's space -> (b,); the paper's lambda is a factor of it.
        count: number of particles, >= 1; as many as samples if that is more.
        steps: of the grid, >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
    """

    label: ClassVar[Label] = Label.ASYMPTOTICALLY_EXACT

    def __init__(
        self,
        denoiser: Denoiser,
        reward: Callable[[Tensor], Tensor],
        count: int = 500,
        steps: int = 100,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(denoiser, _Reward(denoiser, reward), count, steps, threshold)


class _Reward:
    """The prior's own steps; the twist is exp(reward(D))."""

    def __init__(self, denoiser: Denoiser, reward: Callable[[Tensor], Tensor]) -> None:
        self.denoiser, self.reward = denoiser, reward

    @property
    def sde(self) -> GaussianSDE:
        return self.denoiser.sde

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor) -> Twisted:
        denoised = self.denoiser(x, t)
        return Twisted(denoised, denoised, self.log_target(denoised))

    def log_target(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        value = self.reward(x0)
        if value.shape != x0.shape[:1]:
            raise ValueError(f"a reward is one number for each of {len(x0)} samples; got {tuple(value.shape)}")
        return value
