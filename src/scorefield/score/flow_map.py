"""Flow maps: where the probability flow leads from one noise level to any lower one, by one call of a network."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double
from scorefield._inputs import Time, as_tensor
from scorefield._shapes import factor
from scorefield.processes import GaussianSDE, as_point
from scorefield.score.denoiser import Denoiser
from scorefield.score.preconditioned import Preconditioned


class FlowMap(Denoiser):
    """A denoiser with one more question: what the flow from t to an earlier time `to` aims at.

    With y = x / alpha, s = sigma / alpha at t and q = sigma / alpha at `to`, 0 <= q <= s, the probability flow
    dy/ds = (y - D(y, s)) / s of any Gaussian process leads from (y, s) to

        X(y; s -> q) = (q/s) y + (1 - q/s) G(y, s, q),      G(y, s, s) = D(y, s)

    G, `aim`, is where the chord of the path between the two levels meets the data, q = 0  (the parametrisation of
    consistency trajectory models, Kim et al. 2024). It is the denoiser for q -> s, and for q = 0 the end of the path, a
    consistency model (Song et al. 2023). The network sees the level as it always has, and is told 2/pi atan q.

    Args:
        denoiser: its network is told `target`, and `guidance` if there is any: see `Network.told`.
        guidance: the largest weight of classifier-free guidance that the map was trained for, from 1; None for a map
            without.
    """

    def __init__(self, denoiser: Preconditioned, guidance: float | None = None) -> None:
        super().__init__(denoiser.sde)
        if guidance is not None and not 1 < guidance < math.inf:
            raise ValueError(f"the largest weight of guidance must be above 1; got {guidance}")
        self.denoiser, self.guidance = denoiser, guidance

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """G(x, t, t)."""
        return self.denoiser(x, t, **self._told(t, cond))

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the denoiser."""
        x, t = as_point(self.sde, x, t)
        return self.denoiser.predictions(x, t, **self._told(t, cond))

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """That of the denoiser."""
        x, t = as_point(self.sde, x, t)
        return self.denoiser.score(x, t, **self._told(t, cond))

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """That of the denoiser."""
        x, t = as_point(self.sde, x, t)
        return self.denoiser.velocity(x, t, **self._told(t, cond))

    def aim(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """G(x, t, to); `to` is (), or (b,), from 0 to t."""
        x, t = as_point(self.sde, x, t)
        return self.denoiser(x, t, **self._told(double(as_tensor(to, "to")), cond))

    def jump(self, x: Float[Tensor, "b *event"], t: Time, to: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The states at `to`, alpha(to) [(q / sigma) x + (1 - q/s) G]: without 1 / alpha(t), which may be infinite.

        Raises:
            ValueError: `to` is noisier than t.
        """
        x, t = as_point(self.sde, x, t)
        to = double(as_tensor(to, "to"))
        of_x, of_g = chord(self.sde, t, to)
        return factor(of_x, x) * x + factor(of_g, x) * self.aim(x, t, to, **cond)

    def _told(self, to: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        """The conditions of the network."""
        alpha, sigma = scales(self.sde, to)
        told = {**cond, "target": torch.atan2(sigma, alpha) * (2 / math.pi)}
        weight = told.pop("guidance", None)
        if self.guidance is None:
            if weight is not None:
                raise ValueError("this flow map was not trained with weights of guidance: leave `guidance` out")
        else:
            weight = torch.ones(()) if weight is None else weight
            if not 1 <= float(weight.min()) <= float(weight.max()) <= self.guidance * (1 + 1e-6):
                got = f"{float(weight.min()):g} to {float(weight.max()):g}"
                raise ValueError(
                    f"this flow map was trained for weights of guidance from 1 to {self.guidance:g}; got {got}"
                )
            told["guidance"] = (weight - 1) / (self.guidance - 1)
        return told


def scales(sde: GaussianSDE, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at t in float64, 1 and 0 at t = 0, which stands for the data."""
    one = torch.ones_like(t)
    return torch.where(t == 0, one, sde.alpha(t)), torch.where(t == 0, 0 * one, sde.sigma(t))


def chord(sde: GaussianSDE, t: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of x and of G in the states at `to`: alpha' q / sigma and alpha' (1 - q/s), with alpha' at `to`."""
    (alpha, sigma), (there, noise) = scales(sde, t), scales(sde, to)
    ratio = (noise / there) * (alpha / sigma)
    if not bool((ratio <= 1 + 1e-9).all()):
        raise ValueError("a flow map leads towards the data alone: wanted a time `to` that is not after t")
    return noise / sigma, there * (1 - ratio).clamp_min(0)
