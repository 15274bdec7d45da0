"""Guidance by a worse version of the model."""

from __future__ import annotations

from scorefield.guidance.extrapolation import EVERYWHERE, Extrapolation
from scorefield.score import Denoiser


class Autoguidance(Extrapolation):
    """D = D_w + w (D - D_w) with a weaker model of the same data and condition  (Karras et al. 2024).

    ("Guiding a diffusion model with a bad version of itself", eq. 3.) Where both err in the same direction the weaker
    one errs more, so that going past the better one takes its error away, without pushing samples towards the middle
    of their class as classifier-free guidance does. A model of fewer weights or trained for a shorter time will do, one
    of other data will not. Two network calls a step, one of them cheaper.

    Args:
        denoiser: D.
        weaker: D_w, of the same process, under the same condition.
        weight: w, the paper's as well; 1 is the model, 0 the weaker one.
        interval: guided are times with sigma / alpha in (low, high]; elsewhere it is D, by one call.
    """

    def __init__(
        self, denoiser: Denoiser, weaker: Denoiser, weight: float, interval: tuple[float, float] = EVERYWHERE
    ) -> None:
        super().__init__(denoiser, weaker, weight, interval)
