"""Twisted sequential Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise, as_seeds
from scorefield.grids import uniform_log_snr
from scorefield.guidance import Label, MomentMatching, PiGDM
from scorefield.operators import MeasurementNoise, Operator
from scorefield.posterior.particles import particles, systematic
from scorefield.posterior.sampler import PosteriorSampler
from scorefield.score import Denoiser, evaluating, placement


class TwistedSMC(PosteriorSampler):
    """A cloud of particles that a guided denoiser leads and whose weights correct it  (Wu et al. 2023, "TDS").

    The samples are drawn from one cloud: two may be equal if there are not many more particles than samples, and they
    depend on each other. See `particles` for the algorithm.

    Args:
        denoiser: of the prior.
        operator: A, linear.
        y: (1, *measurement).
        noise: the law of y given A x_0; it must have a likelihood.
        twist: the guidance, `PiGDM` or `MomentMatching`.
        count: number of particles; as many as samples if that is more.
        steps: of the grid, >= 2.
        threshold: the cloud is resampled when its effective size falls below this share, in [0, 1].
    """

    label: ClassVar[Label] = Label.ASYMPTOTICALLY_EXACT
    differentiates: ClassVar[bool] = True

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        twist: Callable[[Denoiser, Operator, Tensor, MeasurementNoise], PiGDM | MomentMatching] = PiGDM,
        count: int = 500,
        steps: int = 100,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(denoiser, operator, y, noise)
        if not (count >= 1 and steps >= 2 and 0 <= threshold <= 1):
            raise ValueError(
                f"wanted count >= 1, steps >= 2 and threshold in [0, 1]; got {count}, {steps} and {threshold}"
            )
        if len(y) != 1:
            raise ValueError(f"a cloud of particles is for one measurement; got {len(y)}: make a cloud for each")
        self.twist, self.count, self.steps, self.threshold = (
            twist(denoiser, operator, y, noise),
            count,
            steps,
            threshold,
        )

    @torch.no_grad()
    def sample(
        self,
        event_shape: Sequence[int],
        *,
        seeds: Iterable[int] | Tensor,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Float[Tensor, "n *event"]:
        """As many samples as seeds, drawn from one cloud that is seeded by the first of them."""
        keys = as_seeds(seeds)
        if len(keys) == 0:
            raise ValueError("wanted at least one seed; got none")
        count = max(self.count, len(keys))
        like = torch.empty((count, *event_shape), **placement(self.denoiser))
        noise = Noise.per_batch(int(keys[0]), count, device=like.device)
        sde = self.denoiser.sde
        with evaluating(self.denoiser):
            x, log_weights = particles(
                self.twist,
                like,
                sde.knots(uniform_log_snr(sde, self.steps)),
                self.threshold,
                noise=noise,
                batch_size=batch_size,
                progress=progress,
            )
        return x[systematic(log_weights, len(keys), noise.child(2))]
