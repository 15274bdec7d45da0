"""Diffusion posterior sampling."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import leaf, recording
from scorefield._shapes import expand
from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser
from scorefield.guidance.twist import Twisted, foreseen
from scorefield.operators import MeasurementNoise, Operator
from scorefield.operators.operator import flat
from scorefield.score import Denoiser


class DPS(PosteriorDenoiser):
    """Down the gradient of the residual's norm, for any differentiable A  (Chung et al. 2023, "DPS", algorithm 1).

        D_y = D - zeta (sigma^2 / alpha) sqrt(m / (c r^2 + S)) grad |y - A(D)|,    r^2 = s^2 / (1 + s^2)

    for m real measurements with noise of variance S, and c the square of the norm of A^T along the residual, which is 1
    if A has orthonormal rows. The norm is that of each sample; public codes take one over the batch. The paper
    subtracts zeta grad |.| from the state after each of 1000 steps of one grid, which means another thing on any other
    grid; the factor here is what it should be if p(x_0 | x_t) has a variance of r^2, as for normal data, since
    |y - A(D)| is then about sqrt(m (c r^2 + S)). Thus zeta = 1 on every grid and for every unit of y.

    Args:
        denoiser: of the prior.
        operator: A, any.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A(x_0).
        zeta: strength, > 0.
    """

    label: ClassVar[Label] = Label.HEURISTIC
    differentiates: ClassVar[bool] = True

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        zeta: float = 1.0,
    ) -> None:
        super().__init__(denoiser, operator, y, noise)
        if not 0 < zeta < math.inf:
            raise ValueError(f"zeta must be positive; got {zeta}")
        self.zeta = zeta

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Twisted:
        """With the likelihood of D as the twist, in doubt."""
        look = self._look(x, t, cond)
        log_twist, doubt = foreseen(self.log_target, self.sde, x, t, look.denoised)
        return Twisted(look.denoised, look.denoised + self.correction(x, t, look), log_twist, doubt)

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """-zeta (sigma^2 / alpha) sqrt(m / (c r^2 + S)) grad |y - A(D)|."""
        denoised = look.denoised
        with recording():
            at = denoised if denoised.requires_grad else leaf(denoised)
            residual = self.measurement.residual(at)
            norm = flat(residual).square().sum(1).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
            if not norm.requires_grad:
                raise ValueError(
                    f"{self.measurement.operator} has no gradient: DPS needs a differentiable operator; take "
                    "FKSteering with its log-likelihood as the reward, which needs none"
                )
            (gradient,) = torch.autograd.grad(norm.sum(), at, create_graph=denoised.requires_grad)
        s2, m = self._ratio(x, t) ** 2, flat(residual).shape[1]
        noise = torch.as_tensor(self.measurement.noise.variance(self.measurement.rows(residual))).to(x)
        noise = expand(noise.reshape(len(noise), -1).mean(1), x) if noise.ndim else noise
        c = expand(flat(gradient.detach()).square().sum(1), x)
        spread = c * s2 / (1 + s2) + noise
        spread = torch.where(spread > 0, spread, 1)  # 0 only where the gradient is
        return -self.zeta * (m / spread).sqrt() * look.covariance(gradient)
