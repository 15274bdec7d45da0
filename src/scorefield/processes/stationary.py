"""The law in which a process comes to rest: where the reverse of a process that is not Gaussian starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._device import widened
from scorefield._noise import NoiseSource
from scorefield._shapes import event_sum


@dataclass(frozen=True)
class StationaryPrior:
    """p(x) ~ 1/g^2 exp(int 2 f / g^2 dx) for each component of dx = f(x) dt + g(x) dw by itself.

    The density of the speed measure  (Karlin & Taylor 1981, chapter 15), in a table of equal cells: sampled by the
    inverse of its distribution function, and constant in each cell. After a time T that is long beside the slowest
    relaxation this is the law of x_T whatever the data; look at the two in a histogram.

    Args:
        f: drift, a function of x alone.
        g: diffusion, a function of x alone, > 0 inside of the domain.
        domain: (low, high) of a component: the process's own boundaries, or beyond which p is negligible.
        cells: of the table.
    """

    f: Callable[[Tensor], Tensor]
    g: Callable[[Tensor], Tensor]
    domain: tuple[float, float]
    cells: int = 20_000

    def __post_init__(self) -> None:
        low, high = self.domain
        if not -math.inf < low < high < math.inf or self.cells < 1:
            raise ValueError(
                f"a stationary law needs a finite domain (low, high) and cells >= 1; got {self.domain}, {self.cells}"
            )

    @cached_property
    @unrecorded()
    def _mass(self) -> Float[Tensor, "cells"]:
        """The probability of each cell."""
        low, high = self.domain
        width = (high - low) / self.cells
        x = low + width * (torch.arange(self.cells, dtype=torch.float64) + 0.5)
        g2 = torch.as_tensor(self.g(x), dtype=torch.float64).expand_as(x) ** 2
        slope = 2 * self.f(x) / g2
        log_p = -g2.log()
        log_p[1:] += (0.5 * width * (slope[1:] + slope[:-1])).cumsum(0)
        if not bool(torch.isfinite(log_p).all()):
            raise ValueError(f"f and g must be finite and g > 0 inside of the domain {self.domain}: make it smaller")
        return log_p.softmax(0)

    def sample(self, like: Float[Tensor, "b *event"], noise: NoiseSource) -> Float[Tensor, "b *event"]:
        """One sample for each row of `like`."""
        low, high = self.domain
        u = noise.uniform(torch.empty_like(like, dtype=torch.float64, device="cpu"))
        edges = torch.cat((self._mass.new_zeros(1), self._mass.cumsum(0)))
        cell = (torch.searchsorted(edges, u) - 1).clamp(0, self.cells - 1)
        inside = ((u - edges[cell]) / (edges[cell + 1] - edges[cell])).clamp(0, 1)
        return (low + (high - low) * (cell + inside) / self.cells).to(like)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """The log-density, -inf outside of the domain."""
        low, high = self.domain
        place = (widened(x) - low) / (high - low) * self.cells
        cell = place.long().clamp(0, self.cells - 1)
        log_p = (self._mass.to(place)[cell] * self.cells / (high - low)).log()
        outside = (place < -0.01) | (place > self.cells + 0.01)  # float32 rounds the ends of the domain
        return event_sum(log_p.masked_fill(outside, -math.inf)).to(x.dtype)
