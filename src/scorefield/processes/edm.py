"""EDM's process: time is the noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE


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
