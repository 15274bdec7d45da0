"""Densities of the noise level in training, as maps from a uniform number to a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.sde import GaussianSDE


class TimeDensity(ABC):
    """A density of the log-SNR between those of t_min and T."""

    @abstractmethod
    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times of uniform numbers u in [0, 1), and the density p of the log-SNR there."""


@dataclass(frozen=True)
class UniformTime(TimeDensity):
    """t uniform on [t_min, T]: p = sigma^2 / ((T - t_min) g^2)."""

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p."""
        t = sde.t_min + (sde.T - sde.t_min) * u
        return t, (sde.sigma(t) / sde.g(t)) ** 2 / (sde.T - sde.t_min)


@dataclass(frozen=True)
class UniformLogSNR(TimeDensity):
    """The log-SNR uniform: the density g^2 / sigma^2 in time, importance sampling for the likelihood weight."""

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p."""
        low, high = _range(sde)
        return _time(sde, low + (high - low) * u), torch.full_like(u, 1 / (high - low))


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
        low, high = _range(sde)
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
        return _time(sde, log_snr), (-0.5 * z**2).exp() / (math.sqrt(2 * math.pi) * std * mass)


def _range(sde: GaussianSDE) -> tuple[float, float]:
    low, high = sde.log_snr(torch.tensor([sde.T, sde.t_min], dtype=torch.float64)).tolist()
    return low, high


def _time(sde: GaussianSDE, log_snr: Tensor) -> Tensor:
    return sde.time(log_snr).clamp(sde.t_min, sde.T)
