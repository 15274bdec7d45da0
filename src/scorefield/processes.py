"""The Gaussian processes of the literature, each with its closed forms.

B(t) stands for the integral of beta from 0 to t.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorefield.sde import SDE, GaussianSDE


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


@dataclass(frozen=True)
class Power(GaussianSDE):
    """dx = base^t dw: alpha = 1, sigma^2 = (base^(2t) - 1) / (2 log base).

    The SDE of Song's tutorial with base = 25; base = e gives sigma^2 = (e^(2t) - 1) / 2.

    Args:
        base: > 1.
    """

    base: float = 25.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base > 1:
            raise ValueError(f"Power needs base > 1; got {self.base}")

    @property
    def _rate(self) -> float:
        return 2 * math.log(self.base)

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt((base^(2t) - 1) / (2 log base))."""
        return (torch.expm1(self._rate * t) / self._rate).sqrt()

    def a(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def g(self, t: Tensor) -> Tensor:
        """base^t."""
        return (0.5 * self._rate * t).exp()

    def time(self, log_snr: Tensor) -> Tensor:
        """log(1 + 2 log(base) sigma^2) / (2 log base)."""
        return torch.log1p(self._rate * (-log_snr).exp()) / self._rate


@dataclass(frozen=True, kw_only=True)
class Cosine(GaussianSDE):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2)  (Nichol & Dhariwal 2021 without the offset; Kingma & Gao 2023).

    T stops short of 1, where g is infinite.
    """

    T: float = 0.999
    t_min: float = 1e-3
    t_end: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_below_one(self)

    def alpha(self, t: Tensor) -> Tensor:
        """cos(pi t / 2)."""
        return (0.5 * math.pi * t).cos()

    def sigma(self, t: Tensor) -> Tensor:
        """sin(pi t / 2)."""
        return (0.5 * math.pi * t).sin()

    def log_snr(self, t: Tensor) -> Tensor:
        """-2 log tan(pi t / 2)."""
        return -2 * (0.5 * math.pi * t).tan().log()

    def a(self, t: Tensor) -> Tensor:
        """-(pi / 2) tan(pi t / 2)."""
        return -0.5 * math.pi * (0.5 * math.pi * t).tan()

    def g(self, t: Tensor) -> Tensor:
        """sqrt(pi tan(pi t / 2))."""
        return (math.pi * (0.5 * math.pi * t).tan()).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """(2 / pi) arctan(exp(-log_snr / 2))."""
        return 2 / math.pi * torch.atan((-0.5 * log_snr).exp())


@dataclass(frozen=True, kw_only=True)
class Rectified(GaussianSDE):
    """Rectified flow: alpha = 1 - t, sigma = t  (Liu et al. 2023; Lipman et al. 2023).

    T stops short of 1, where g is infinite.
    """

    T: float = 0.999
    t_min: float = 1e-3
    t_end: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_below_one(self)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def a(self, t: Tensor) -> Tensor:
        """-1 / (1 - t)."""
        return -1 / (1 - t)

    def g(self, t: Tensor) -> Tensor:
        """sqrt(2 t / (1 - t))."""
        return (2 * t / (1 - t)).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """1 / (1 + exp(log_snr / 2))."""
        return torch.sigmoid(-0.5 * log_snr)


@dataclass(frozen=True, kw_only=True)
class EDM(GaussianSDE):
    """alpha = 1, sigma = t, g^2 = 2 t: time is the noise level  (Karras et al. 2022, table 1).

    Args:
        T: largest noise level sigma_max.
        t_min: smallest noise level sigma_min.
        t_end: noise level of the last step.
    """

    T: float = 80.0
    t_min: float = 0.002
    t_end: float = 0.002

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def log_snr(self, t: Tensor) -> Tensor:
        """-2 log t."""
        return -2 * t.log()

    def a(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def g(self, t: Tensor) -> Tensor:
        """sqrt(2 t)."""
        return (2 * t).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """exp(-log_snr / 2)."""
        return (-0.5 * log_snr).exp()


def _require_below_one(sde: SDE) -> None:
    if sde.T >= 1:
        raise ValueError(f"{type(sde).__name__} needs T < 1, since its g is infinite at 1; got T={sde.T}")
