"""Moment matching posterior sampling."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser
from scorefield.guidance.twist import Twisted
from scorefield.operators import MeasurementNoise, Operator
from scorefield.operators.operator import conjugate_gradients, inner
from scorefield.score import Denoiser


class MomentMatching(PosteriorDenoiser):
    """MMPS: p(x_0 | x_t) taken as normal with its true mean and covariance  (Rozet et al. 2024, eq. 19-21).

        D_y = D + V A^T (A V A^T + S)^-1 (y - A D),    V = Cov[x_0 | x_t] = (sigma^2 / alpha) dD/dx

    S is the covariance of the measurement's noise. Solved by conjugate gradients, whose every iteration takes one
    vector-Jacobian product of the network; the last product by V costs nothing, since V A^T of each direction is known.

    A learned V is no covariance: it errs by some hundredths of s^2, s = sigma / alpha, where the true one may have far
    smaller eigenvalues, and without noise to hide that the correction could be of any size while the residual is small.
    So the iterations of a row end where its V is not positive or not symmetric, and no step goes farther than it may
    with V <= (2 s)^2 I. For log-concave data V <= s^2 I  (Brascamp & Lieb 1976); between two modes it can be more,
    rarely much more on the way of a sample.

    Args:
        denoiser: of the prior.
        operator: A, linear.
        y: (1, *measurement) for all samples, or one row for each.
        noise: the law of y given A x_0.
        iterations: of the conjugate gradients, >= 1. As many as there are measurements is exact; 3 suffice where the
            noise is not small. More, if the residual of the samples is above the noise.
    """

    label: ClassVar[Label] = Label.GAUSSIAN_EXACT
    differentiates: ClassVar[bool] = True

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise: MeasurementNoise,
        iterations: int = 3,
    ) -> None:
        super().__init__(denoiser, operator, y, noise)
        if iterations < 1:
            raise ValueError(f"conjugate gradients need at least 1 iteration; got {iterations}")
        self.iterations = iterations

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """V A^T (A V A^T + S)^-1 (y - A D)."""
        return self._solved(look, 2 * self._ratio(x, t))[0]

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Twisted:
        """With the normal density of the residual, less its determinant, as the twist.

        Within any reach: the weights correct what a step does, and a row that ended early would look the likelier.
        """
        look = self._look(x, t, cond)
        correction, log_twist = self._solved(look, None)
        return Twisted(look.denoised, look.denoised + correction, log_twist)

    def _solved(self, look: Look, reach: Tensor | None) -> tuple[Tensor, Tensor]:
        a = self.measurement.linear
        clean = a.A(look.denoised)
        y = self.measurement.rows(clean)
        variance = self.measurement.noise.variance(y)

        def gram(v: Tensor) -> tuple[Tensor, Tensor]:
            moved = look.covariance(a.A_adjoint(v))
            return a.A(moved) + variance * v, moved

        weights, correction = conjugate_gradients(gram, y - clean, self.iterations, least=variance, reach=reach)
        return correction, -0.5 * inner(y - clean, weights)
