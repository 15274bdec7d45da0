"""Densities of the noise level in training, as maps from a uniform number to a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.processes import GaussianSDE


class TimeDensity(ABC):
    """A density of the log-SNR between those of t_min and t_start, or a law of some levels there."""

    @abstractmethod
    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times of uniform numbers u in [0, 1), and the density p of the log-SNR there (1 for a single level)."""


@dataclass(frozen=True)
class UniformTime(TimeDensity):
    """t uniform on [t_min, t_start], up to T but for a long process: p = sigma^2 / ((t_start - t_min) g^2)."""

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p."""
        span = sde.t_start - sde.t_min
        t = sde.t_min + span * u
        return t, (sde.sigma(t) / sde.g(t)) ** 2 / span


@dataclass(frozen=True)
class UniformLogSNR(TimeDensity):
    """The log-SNR uniform: the density g^2 / sigma^2 in time, importance sampling for the likelihood weight."""

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p."""
        low, high = log_snr_range(sde)
        return time_inside(sde, low + (high - low) * u), torch.full_like(u, 1 / (high - low))


@dataclass(frozen=True)
class LogNormalSigma(TimeDensity):
    """log(sigma / alpha) ~ N(mean, std^2), cut off at the process's range  (Karras et al. 2022, table 1).

    Args:
        mean: of log(sigma / alpha), P_mean of the paper.
        std: P_std of the paper, > 0.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std must be positive; got {self.std}")

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p, by the inverse of the cut-off normal's distribution function."""
        low, high = log_snr_range(sde)
        mean, std = -2 * self.mean, 2 * self.std  # of the log-SNR
        below, above = ((1 + math.erf((end - mean) / (std * math.sqrt(2)))) / 2 for end in (low, high))
        mass = above - below
        if not mass > 1e-6:
            raise ValueError(
                f"{self} has no mass in the range of this process, log(sigma / alpha) from {-high / 2:.3g} to "
                f"{-low / 2:.3g}: choose a mean inside it"
            )
        log_snr = (mean + std * torch.special.ndtri(below + mass * u)).clamp(low, high)
        z = (log_snr - mean) / std
        return time_inside(sde, log_snr), (-0.5 * z**2).exp() / (math.sqrt(2 * math.pi) * std * mass)


@dataclass(frozen=True)
class OneLevel(TimeDensity):
    """The noise-to-signal ratio sigma / alpha always the same: denoising at a single level  (Vincent 2011).

    What is learnt is the score of data with that noise. The target z / sigma of denoising has a variance of
    d / sigma^2, so that small levels take many samples: the cure is to learn all at once, by one network (Song & Ermon
    2019).

    Args:
        sigma: the ratio, in the range of the process.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive; got {self.sigma}")

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The time of the level, and its probability, 1."""
        (low, high), log_snr = log_snr_range(sde), -2 * math.log(self.sigma)
        if not low - 1e-3 <= log_snr <= high + 1e-3:  # the least level is that at t_min, a little above that at 0
            raise ValueError(
                f"sigma / alpha of {type(sde).__name__} lies in [{math.exp(-high / 2):.3g}, {math.exp(-low / 2):.3g}]; "
                f"got {self.sigma}"
            )
        return time_inside(sde, torch.full_like(u, log_snr)), torch.ones_like(u)


@dataclass(frozen=True)
class Levels(TimeDensity):
    """`count` levels of sigma / alpha, geometric from the process's least to its greatest  (Song & Ermon 2019).

    Each sample is given one of them at random, which estimates the mean over all. As a density p counts each level as
    spread over its distance to the next.

    Args:
        count: at least 2.
    """

    count: int = 10

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"count must be at least 2; got {self.count}")

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times of the levels, and p."""
        low, high = log_snr_range(sde)
        k = (u * self.count).floor().clamp_max(self.count - 1)
        p = (self.count - 1) / self.count / (high - low)
        return time_inside(sde, low + (high - low) * k / (self.count - 1)), torch.full_like(u, p)


def log_snr_range(sde: GaussianSDE) -> tuple[float, float]:
    """The log-SNR at t_start and at t_min."""
    low, high = sde.log_snr(torch.tensor([sde.t_start, sde.t_min], dtype=torch.float64)).tolist()
    return low, high


def time_inside(sde: GaussianSDE, log_snr: Tensor) -> Tensor:
    """The time of a log-SNR, kept in the range against rounding."""
    return sde.time(log_snr).clamp(sde.t_min, sde.t_start)
