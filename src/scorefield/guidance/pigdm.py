"""Pseudo-inverse guidance."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser
from scorefield.guidance.twist import Twisted
from scorefield.operators import MeasurementNoise, Operator
from scorefield.operators.operator import inner
from scorefield.score import Denoiser


class PiGDM(PosteriorDenoiser):
    """p(x_0 | x_t) taken as N(D, r^2 I), as it is for data from N(0, v I)  (Song et al. 2023, "PiGDM", eq. 7-9).

        D_y = D + V A^T (r^2 A A^T + S)^-1 (y - A D),    r^2 = v s^2 / (v + s^2),    s = sigma / alpha

    V = (sigma^2 / alpha) dD/dx and S the covariance of the measurement's noise; one vector-Jacobian product a call.
    The paper's VP form has r^2 = sigma^2 for v = 1, and a further factor for DDIM that this one does not need.

    Args:
        denoiser: of the prior.
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A x_0.
        sigma_data: sqrt(v), > 0.
    """

    label: ClassVar[Label] = Label.HEURISTIC  # exact for isotropic normal priors alone
    differentiates: ClassVar[bool] = True

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__(denoiser, operator, y, noise)
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive; got {sigma_data}")
        self.sigma_data = sigma_data

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """V A^T (r^2 A A^T + S)^-1 (y - A D)."""
        return self._solved(x, t, look)[0]

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Twisted:
        """With N(y; A D, r^2 A A^T + S) as the twist."""
        look = self._look(x, t, cond)
        correction, log_twist = self._solved(x, t, look)
        return Twisted(look.denoised, look.denoised + correction, log_twist)

    def _solved(self, x: Tensor, t: Tensor, look: Look) -> tuple[Tensor, Tensor]:
        s, v = self._ratio(x, t), self.sigma_data**2
        residual, weights = self.measurement.ridge(look.denoised, v * s**2 / (v + s**2))
        return look.covariance(self.measurement.linear.A_adjoint(weights)), -0.5 * inner(residual, weights)
