"""Noise that grows as a power of a base."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE


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
