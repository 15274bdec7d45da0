"""Variance exploding: a geometric sequence of noise levels."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE


@dataclass(frozen=True)
class VE(GaussianSDE):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t  (Song et al. 2021, eq. 30).

    The variance is sigma(t)^2 as in the authors' code, so the data at t = 0 carry noise of sigma_min; the SDE started
    from clean data would have sigma(t)^2 - sigma_min^2. Kernel, score and samplers here all use sigma(t).

    Args:
        sigma_min: noise at t = 0, in the units of the data, > 0.
        sigma_max: noise at t = 1: about the largest distance between two data points (Song & Ermon 2020).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    _: KW_ONLY
    t_end: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"VE needs 0 < sigma_min < sigma_max; got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_min (sigma_max / sigma_min)^t."""
        return self.sigma_min * (self._rate * t).exp()

    def log_snr(self, t: Tensor) -> Tensor:
        """-2 log sigma."""
        return -2 * (math.log(self.sigma_min) + self._rate * t)

    def a(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def g(self, t: Tensor) -> Tensor:
        """sigma(t) sqrt(2 log(sigma_max / sigma_min))."""
        return self.sigma(t) * math.sqrt(2 * self._rate)

    def time(self, log_snr: Tensor) -> Tensor:
        """log(sigma / sigma_min) / log(sigma_max / sigma_min)."""
        return (-0.5 * log_snr - math.log(self.sigma_min)) / self._rate
