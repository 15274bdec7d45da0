"""Away from a worse model and past a better one: the formula of classifier-free guidance and of autoguidance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._device import double, placed
from scorefield._inputs import Time
from scorefield._shapes import expand
from scorefield.guidance.measurement import Label
from scorefield.processes import as_point
from scorefield.score import Denoiser

EVERYWHERE = (0.0, math.inf)


class Extrapolation(Denoiser):
    """D = D_r + w (D_m - D_r) for a model m and a reference r; the same w mixes their scores and their noises.

    w = 1 is the model, w = 0 the reference, both to the bit; w > 1 goes past the model. The score is that of

        p_t^m(x)^w p_t^r(x)^(1-w), normalised at each time by itself.

    These are not the noisy versions of one density, so that a sampler which only follows the score does not reach the
    one of the data, p^m(x)^w p^r(x)^(1-w), unless w is 0 or 1: it ends elsewhere, however many its steps. One that is
    held at the law of each time does, as `PredictorCorrector(DDIM(), Langevin(0.5), corrections=10)`, in the limit of
    many corrections. What it draws from is the density of the last time before 0, which is that of the data as its
    noise goes to 0; the denoise step after it moves a state by about the size of that noise.

    Outside the interval of noise levels it is the model alone, by one network call: guidance was found to do harm where
    there is much noise, and nothing where there is little  (Kynkaanniemi et al. 2024, "Applying guidance in a limited
    interval").

    Args:
        model: m, a denoiser.
        reference: r, a denoiser of the same process.
        weight: w. Conventions differ: others write 1 + w for it.
        interval: guided are times with sigma / alpha in (low, high].

    Raises:
        ValueError: the processes differ, the weight is not finite, or the interval is empty.
    """

    label: ClassVar[Label] = Label.HEURISTIC

    def __init__(
        self, model: Denoiser, reference: Denoiser, weight: float, interval: tuple[float, float] = EVERYWHERE
    ) -> None:
        super().__init__(model.sde)
        check_process(model, reference)
        if not math.isfinite(weight):
            raise ValueError(f"the weight of guidance must be finite; got {weight}")
        if not 0 <= interval[0] < interval[1]:
            raise ValueError(f"interval must hold two rising values of sigma / alpha; got {interval}")
        self.model, self.reference, self.weight, self.interval = model, reference, weight, interval

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The guided denoiser; further conditions go to both models."""
        return self._extrapolated(x, t, lambda model: (model(x, t, **cond),))[0]

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """The guided ones, mixed alike."""
        x, t = as_point(self.sde, x, t)
        denoised, noise = self._extrapolated(x, t, lambda model: model.predictions(x, t, **cond))
        return denoised, noise

    def parts(
        self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor
    ) -> tuple[tuple[float, ...], tuple[Float[Tensor, "b *event"], ...]]:
        """1 - w of the reference, w of the model; outside the interval 0, 1 by one call; w = 0, 1 are one part."""
        if self.weight in (0, 1):
            return super().parts(x, t, **cond)
        denoised = self.model(x, t, **cond)
        low, high = self.interval
        t = double(t)
        if not low < float(self.sde.sigma(t) / self.sde.alpha(t)) <= high:
            return (0.0, 1.0), (denoised, denoised)
        return (1 - self.weight, self.weight), (self.reference(x, t, **cond), denoised)

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """Keeps the rows of both models."""
        return type(self)(self.model.select(rows, n), self.reference.select(rows, n), self.weight, self.interval)

    def _extrapolated(
        self, x: Tensor, t: Tensor, views: Callable[[Denoiser], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Those of the reference, by the weight towards those of the model and beyond."""
        found, weight = views(self.model), self.weight
        if self.interval != EVERYWHERE:
            t = double(t)
            ratio = self.sde.sigma(t) / self.sde.alpha(t)
            inside = (self.interval[0] < ratio) & (ratio <= self.interval[1])
            if not bool(inside.any()):
                return found
            weight = placed(expand(torch.where(inside, self.weight, 1.0), x), x)
        return tuple(torch.lerp(r, m, weight) for r, m in zip(views(self.reference), found, strict=True))


def check_process(model: Denoiser, other: object) -> None:
    """Refuses to guide a model by one of another process; what has no process goes with any."""
    theirs = getattr(other, "sde", model.sde)
    if theirs != model.sde:
        raise ValueError(f"guidance needs models of one process; got {model.sde} and {theirs}: train both on the same")
