"""Classifier-free guidance."""

from __future__ import annotations

from scorefield.guidance.extrapolation import EVERYWHERE, Extrapolation
from scorefield.score import Denoiser


class ClassifierFree(Extrapolation):
    """D = D_u + w (D_c - D_u): from a model without the condition past the one with it  (Ho & Salimans 2022, eq. 6).

    One network knows both if it was trained with `LabelDropout`: `ClassifierFree(model.given(label=3), model, 2.0)`.
    Two network calls a step. The paper's weight is w - 1 here. What it samples from, and with which correctors: see
    `Extrapolation`.

    Args:
        conditional: D_c, a denoiser under its condition.
        unconditional: D_u, without it, of the same process.
        weight: w; 1 is the conditional model, 0 the unconditional one.
        interval: guided are times with sigma / alpha in (low, high]; elsewhere it is D_c, by one call.
    """

    def __init__(
        self,
        conditional: Denoiser,
        unconditional: Denoiser,
        weight: float,
        interval: tuple[float, float] = EVERYWHERE,
    ) -> None:
        super().__init__(conditional, unconditional, weight, interval)
