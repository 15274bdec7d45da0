"""The contract of methods that own a loop over the prior's sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from scorefield._derivatives import unrecorded
from scorefield._finite import require_finite
from scorefield._inputs import Seeds, Shape, as_seeds, as_shape, whole
from scorefield._noise import Noise
from scorefield.guidance import Label, Measurement
from scorefield.operators import MeasurementNoise, Operator
from scorefield.score import Denoiser, evaluating, placement


class PosteriorSampler(ABC):
    """Samples of x_0 under a condition, in the model's space.

    Attributes:
        label: what is known of the samples.
        differentiates: whether it takes gradients of the network.
    """

    label: ClassVar[Label]
    differentiates: ClassVar[bool] = False

    @abstractmethod
    def sample(
        self,
        event_shape: Shape,
        *,
        seeds: Seeds,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Float[Tensor, "n *event"]:
        """One sample for each seed.

        Args:
            event_shape: shape of one sample.
            seeds: one 64-bit integer for each sample.
            batch_size: samples in one network call; all by default.
            progress: show a progress bar.
        """


class OuterLoop(PosteriorSampler):
    """Samples of x_0 given y = A(x_0) + noise, each by itself; a subclass gives `run`.

    Args:
        denoiser: of the prior.
        operator: A.
        y: (1, *measurement) for all samples, or one row for each, in the model's space.
        noise: the law of y given A(x_0), in the units of y.
        rounds: of the loop, for the progress bar.
    """

    def __init__(self, denoiser: Denoiser, operator: Operator, y: Tensor, noise: MeasurementNoise, rounds: int) -> None:
        self.denoiser, self.measurement, self.rounds = denoiser, Measurement(operator, y, noise), rounds

    @abstractmethod
    def run(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        like: Float[Tensor, "b *event"],
        noise: Noise,
        tick: Callable[[], object],
    ) -> Float[Tensor, "b *event"]:
        """Samples of a batch.

        Args:
            denoiser: of the prior, for the batch.
            measurement: of the batch.
            like: a tensor of the samples' shape, dtype and device.
            noise: of the batch.
            tick: to be called after each round.
        """

    @unrecorded()
    def sample(
        self,
        event_shape: Shape,
        *,
        seeds: Seeds,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Float[Tensor, "n *event"]:
        """One sample for each seed; it does not depend on the others (see `scorefield.sample`)."""
        keys = as_seeds(seeds)
        n = len(keys)
        if n == 0:
            raise ValueError("wanted at least one seed; got none")
        batch_size = n if batch_size is None else whole(batch_size, "batch_size")
        like = torch.empty((batch_size, *as_shape(event_shape)), **placement(self.denoiser))
        batches, results = range(0, n, batch_size), list[Tensor]()
        with (
            evaluating(self.denoiser),
            tqdm(total=len(batches) * self.rounds, unit="round", disable=None if progress else True) as bar,
        ):
            for first in batches:
                rows = torch.arange(first, first + batch_size).clamp_max(n - 1)
                noise = Noise.per_sample(keys[rows], like.device)
                denoiser, measurement = self.denoiser.select(rows, n), self.measurement.select(rows, n)
                results.append(self.run(denoiser, measurement, like, noise, bar.update)[: n - first])
        samples = torch.cat(results)
        require_finite(samples, "samples", self.denoiser.sde, self.denoiser)
        return samples
