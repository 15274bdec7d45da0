"""The likelihood of the noisy state itself."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scorefield.guidance.measurement import Label
from scorefield.guidance.posterior_denoiser import Look, PosteriorDenoiser


class ScoreALD(PosteriorDenoiser):
    """p(y | x_t) taken as N(A x_t / alpha, s^2 A A^T + S), s = sigma / alpha  (Jalal et al. 2021, eq. 4).

        D_y = D + s^2 A^T (s^2 A A^T + S)^-1 (y - A x_t / alpha)

    which is what it would be if the data had a flat prior. The paper has gamma^2 I for s^2 A A^T, with gamma tuned; the
    two agree where A A^T = I. No gradient of the network. As s -> 0 it is the exact posterior score, so that Langevin
    steps at a small noise sample the posterior if they can reach all of it: `AnnealedLangevin` with this denoiser is
    the paper's sampler.
    """

    label: ClassVar[Label] = Label.HEURISTIC
    differentiates: ClassVar[bool] = False

    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """s^2 A^T (s^2 A A^T + S)^-1 (y - A x / alpha)."""
        alpha, sigma = self._scales(x, t)
        spread = (sigma / alpha) ** 2
        return spread * self.measurement.linear.A_adjoint(self.measurement.ridge(x / alpha, spread)[1])
