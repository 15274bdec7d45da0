"""Denoising diffusion restoration models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.guidance.spectral import Spectral
from scorefield.operators import Linear, MeasurementNoise


class DDRM(Spectral):
    """DDIM whose measured coordinates are drawn towards the measurement  (Kawar et al. 2022, eq. 7-8).

    With ybar_i = (U^T y)_i / s_i, its noise std_i = sigma_y / s_i, and c_i the coordinate of D,

        not measured    D + sqrt(1 - eta^2) s_b (xbar - D) / s_a + eta s_b z
        s_b < std_i     c_i + sqrt(1 - eta^2) s_b (ybar_i - c_i) / std_i + eta s_b z
        s_b >= std_i    (1 - eta_b) c_i + eta_b ybar_i + sqrt(s_b^2 - eta_b^2 std_i^2) z

    and the first state is N(ybar_i, s^2 - std_i^2). No gradient of the network.

    Args:
        operator: A.
        y: (1, *measurement) for all samples, or one row for each.
        noise: `Gaussian` or `Noiseless`.
        eta: in [0, 1].
        eta_b: in [0, 1].
    """

    def __init__(
        self, operator: Linear, y: Tensor, noise: MeasurementNoise, eta: float = 0.85, eta_b: float = 1.0
    ) -> None:
        super().__init__(operator, y, noise)
        if not (0 <= eta <= 1 and 0 <= eta_b <= 1):
            raise ValueError(f"eta and eta_b must lie in [0, 1]; got {eta} and {eta_b}")
        self.eta, self.eta_b = eta, eta_b

    def first(self, y: Tensor, std: Tensor, c: Tensor, s: float) -> Tensor:
        """N(ybar, s^2 - std^2); c / s is as good as standard normal at the first time."""
        return y + (s**2 - std**2).clamp_min(0).sqrt() * c / s

    def rest(self, denoised: Tensor, xbar: Tensor, z: Tensor, s: float, s_next: float) -> Tensor:
        """DDIM's step."""
        return denoised + math.sqrt(1 - self.eta**2) * s_next / s * (xbar - denoised) + self.eta * s_next * z

    def coordinates(
        self, y: Tensor, std: Tensor, denoised: Tensor, c: Tensor, z: Tensor, s: float, s_next: float
    ) -> Tensor:
        """The two cases of a measured coordinate."""
        kept = math.sqrt(1 - self.eta**2) * s_next / std.clamp_min(torch.finfo(std.dtype).tiny)
        below = denoised + kept * (y - denoised) + self.eta * s_next * z
        spread = (s_next**2 - (self.eta_b * std) ** 2).clamp_min(0).sqrt()
        above = (1 - self.eta_b) * denoised + self.eta_b * y + spread * z
        return torch.where(s_next < std, below, above)
