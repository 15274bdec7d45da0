"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield.score import Denoiser


class Objective(ABC):
    """A loss for each sample; the caller takes the mean."""

    @abstractmethod
    def __call__(
        self, model: Denoiser, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The losses of a batch of clean samples."""
