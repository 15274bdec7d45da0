"""The null-space method, for measurements without and with noise."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser
from scorefield.guidance.spectral import Spectral


class DDNM(PosteriorDenoiser):
    """D + A^+ (y - A D): what is measured comes from y, the rest from D  (Wang et al. 2023, "DDNM", eq. 9).

    It takes y for exact, whatever the noise: see `DDNMPlus`. No gradient of the network.
    """

    label: ClassVar[Label] = Label.HEURISTIC
    differentiates: ClassVar[bool] = False

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """A^+ (y - A D)."""
        return self.measurement.linear.A_dagger(self.measurement.residual(look.denoised))


class DDNMPlus(Spectral):
    """Ancestral sampling by DDNM's D, with less of y where its noise is above the state's  (Wang et al. 2023, eq. 19).

    With k = s_b^2 / s_a^2, v = s_b^2 (1 - k), ybar_i = (U^T y)_i / s_i, its noise std_i = sigma_y / s_i, c_i of xbar,

        k c_i + (1 - k) (d_i + l_i (ybar_i - d_i)) + sqrt(v - ((1 - k) l_i std_i)^2) z

    for d_i of D and the largest l_i <= 1 for which the root is real, so that a step brings the noise that it should.
    But the noise of y is the same in each step and adds up where l_i < 1: it is for few steps (the paper has 100) and
    little noise. `DDRM` has no such limit.
    """

    def rest(self, denoised: Tensor, xbar: Tensor, z: Tensor, s: float, s_next: float) -> Tensor:
        """The ancestral step."""
        k = (s_next / s) ** 2
        return k * xbar + (1 - k) * denoised + s_next * math.sqrt(1 - k) * z

    def coordinates(
        self, y: Tensor, std: Tensor, denoised: Tensor, c: Tensor, z: Tensor, s: float, s_next: float
    ) -> Tensor:
        """The ancestral step of a measured coordinate."""
        k = (s_next / s) ** 2
        spread = s_next * math.sqrt(1 - k)
        noisy = (1 - k) * std
        share = torch.where(noisy > spread, spread / noisy.clamp_min(torch.finfo(std.dtype).tiny), 1.0)
        rest = (spread**2 - noisy**2).clamp_min(0).sqrt()
        return k * c + (1 - k) * (denoised + share * (y - denoised)) + rest * z
