"""Rectified flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE, require_below_one


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
        require_below_one(self)

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
