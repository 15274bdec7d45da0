"""DiffPIR's data step."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser
from scorefield.operators import MeasurementNoise, Operator
from scorefield.score import Denoiser


class DiffPIR(PosteriorDenoiser):
    """The point between D and the measurement, without a gradient of the network  (Zhu et al. 2023, eq. 12-13).

        D_y = argmin_x  |y - A x|^2 / (2 S) + weight |x - D|^2 / (2 s^2) = D + r^2 A^T (r^2 A A^T + S)^-1 (y - A D)

    with r^2 = s^2 / weight, s = sigma / alpha. Without noise this is D + A^+ (y - A D), DDNM's step. The paper's
    mixing of old and new noise is the solver's eta: `Ancestral()` for all new, `DDIM()` for all old.

    Args:
        denoiser: of the prior.
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A x_0.
        weight: the paper's lambda, > 0.
    """

    label: ClassVar[Label] = Label.HEURISTIC
    differentiates: ClassVar[bool] = False

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        weight: float = 1.0,
    ) -> None:
        super().__init__(denoiser, operator, y, noise)
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive; got {weight}")
        self.weight = weight

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """r^2 A^T (r^2 A A^T + S)^-1 (y - A D)."""
        spread = self._ratio(x, t) ** 2 / self.weight
        return spread * self.measurement.linear.A_adjoint(self.measurement.ridge(look.denoised, spread)[1])
