"""Variance preserving: a linear beta; B(t) stands for its integral from 0 to t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorefield.processes.gaussian import GaussianSDE


@dataclass(frozen=True)
class _LinearBeta(GaussianSDE):
    """beta(t) = beta_min + (beta_max - beta_min) t and its integral B(t); alpha = exp(-B / 2)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"{type(self).__name__} needs 0 < beta_min <= beta_max; "
                f"got beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    def beta(self, t: Tensor) -> Tensor:
        """beta_min + (beta_max - beta_min) t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """B(t) = beta_min t + (beta_max - beta_min) t^2 / 2."""
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B / 2)."""
        return (-0.5 * self.integral(t)).exp()

    def a(self, t: Tensor) -> Tensor:
        """-beta / 2."""
        return -0.5 * self.beta(t)

    def _time_of_integral(self, b: Tensor) -> Tensor:
        # the form of the quadratic's root that does not cancel for small B
        slope = self.beta_max - self.beta_min
        return 2 * b / (self.beta_min + (self.beta_min**2 + 2 * slope * b).sqrt())


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), g^2 = beta  (Song et al. 2021, eq. 32-33).

    The continuous form of DDPM (Ho et al. 2020).

    Args:
        beta_min: beta(0), > 0.
        beta_max: beta(1).
    """

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B))."""
        return (-torch.expm1(-self.integral(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """-log(exp(B) - 1)."""
        b = self.integral(t)
        return -b - (-torch.expm1(-b)).log()

    def g(self, t: Tensor) -> Tensor:
        """sqrt(beta)."""
        return self.beta(t).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """B = log(1 + exp(-log_snr))."""
        return self._time_of_integral(functional.softplus(-log_snr))


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-variance preserving: alpha = exp(-B/2), sigma = 1 - exp(-B)  (Song et al. 2021, eq. 29).

    Args:
        beta_min: beta(0), > 0.
        beta_max: beta(1).
    """

    def sigma(self, t: Tensor) -> Tensor:
        """1 - exp(-B), the standard deviation."""
        return -torch.expm1(-self.integral(t))

    def log_snr(self, t: Tensor) -> Tensor:
        """-B - 2 log(1 - exp(-B))."""
        b = self.integral(t)
        return -b - 2 * (-torch.expm1(-b)).log()

    def g(self, t: Tensor) -> Tensor:
        """sqrt(beta (1 - exp(-2 B)))."""
        return (-self.beta(t) * torch.expm1(-2 * self.integral(t))).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """alpha / sigma = 1 / (2 sinh(B / 2))."""
        return self._time_of_integral(2 * torch.asinh(0.5 * (-0.5 * log_snr).exp()))
