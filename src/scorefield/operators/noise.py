"""What measurements suffer: the law of y given the clean measurement A(x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.operators.operator import flat


class MeasurementNoise(ABC):
    """p(y | A(x)) in the units of y; complex measurements count as pairs of real numbers."""

    @abstractmethod
    def log_likelihood(self, y: Tensor, clean: Tensor) -> Float[Tensor, "b"]:
        """log p(y | clean) up to a constant of `clean`; gradients pass through `clean`."""

    @abstractmethod
    def variance(self, y: Tensor) -> Tensor | float:
        """Of each real number of y, for methods that treat the noise as normal; broadcasts against y."""

    @property
    @abstractmethod
    def least_std(self) -> float:
        """Least standard deviation that any y may have, 0 for none: the order of a posterior's finest structure."""

    @abstractmethod
    def sample(self, clean: Tensor, *, noise: NoiseSource) -> Tensor:
        """Simulated measurements."""

    @abstractmethod
    def rescaled(self, shift: Tensor, scale: float) -> MeasurementNoise:
        """The noise of (y - shift) / scale."""


@dataclass(frozen=True)
class Gaussian(MeasurementNoise):
    """y = clean + std n, n standard normal; of a complex number both parts have this std.

    Args:
        std: > 0, in the units of y.
    """

    std: float

    def __post_init__(self) -> None:
        if isinstance(self.std, Tensor) or not 0 < self.std < math.inf:
            raise ValueError(f"the noise's std must be a positive number; got {self.std}: use Noiseless() for none")

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Float[Tensor, "b"]:
        """-|y - clean|^2 / (2 std^2)."""
        return -0.5 * flat((y - clean) / self.std).square().sum(1)

    def variance(self, y: Tensor) -> float:
        """std^2."""
        return self.std**2

    @property
    def least_std(self) -> float:
        """std."""
        return self.std

    def sample(self, clean: Tensor, *, noise: NoiseSource) -> Tensor:
        """Clean + std n."""
        if clean.is_complex():
            return clean + self.std * torch.view_as_complex(noise.normal(torch.view_as_real(clean)))
        return clean + self.std * noise.normal(clean)

    def rescaled(self, shift: Tensor, scale: float) -> Gaussian:
        """Std / scale."""
        return Gaussian(self.std / scale)


@dataclass(frozen=True)
class Noiseless(MeasurementNoise):
    """y = clean."""

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Float[Tensor, "b"]:
        """Has none."""
        raise ValueError("a measurement without noise has no likelihood: give Gaussian(std) with a small std")

    def variance(self, y: Tensor) -> float:
        """0."""
        return 0.0

    @property
    def least_std(self) -> float:
        """0."""
        return 0.0

    def sample(self, clean: Tensor, *, noise: NoiseSource) -> Tensor:
        """The clean measurement."""
        return clean

    def rescaled(self, shift: Tensor, scale: float) -> Noiseless:
        """The same."""
        return self


@dataclass(frozen=True)
class Poisson(MeasurementNoise):
    """(y + background) / gain ~ Poisson((clean + background) / gain): counts of photons, the clean ones >= 0.

    Args:
        gain: what one count adds to y, > 0.
        background: what is added to y to make it a count times the gain; a number, or a tensor of one measurement.
    """

    gain: float
    background: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise ValueError(f"the gain of counts must be positive; got {self.gain}")

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Float[Tensor, "b"]:
        """Sum of k log r - r for k counts of rate r; below r = 1e-3 the logarithm goes on as its tangent.

        So a clean measurement that is not yet positive has a likelihood as well, whose gradient brings it back.
        """
        rate = self._counts(clean)
        enough = rate.clamp_min(1e-3)
        return flat(self._counts(y) * (enough.log() + (rate - enough) / 1e-3) - rate).sum(1)

    def variance(self, y: Tensor) -> Tensor:
        """gain^2 times the number of counts, at least 1."""
        return self.gain**2 * self._counts(y).clamp_min(1)

    @property
    def least_std(self) -> float:
        """That of a single count, the gain."""
        return self.gain

    def sample(self, clean: Tensor, *, noise: NoiseSource) -> Tensor:
        """Counts by the inverse of their distribution function."""
        from scipy.stats import poisson  # heavy, and nothing else here needs it

        rate = self._counts(clean.detach())
        if not bool((rate >= 0).all()):
            raise ValueError(f"counts need a clean measurement of at least 0; got {float(rate.min())} of them")
        rate = rate.cpu().double()
        counts = torch.as_tensor(poisson.ppf(noise.uniform(rate).numpy(), rate.numpy())).to(clean)
        return self.gain * counts - self._background(clean)

    def rescaled(self, shift: Tensor, scale: float) -> Poisson:
        """Gain / scale, and the shift becomes part of the background."""
        return Poisson(self.gain / scale, (self._background(shift) + shift) / scale)

    def _counts(self, y: Tensor) -> Tensor:
        if y.is_complex():
            raise ValueError("counts are real numbers; got a complex measurement: use Gaussian(std)")
        return (y + self._background(y)) / self.gain

    def _background(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.background, dtype=like.dtype, device=like.device)
