"""The cosine process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE, require_below_one


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
        require_below_one(self)

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
