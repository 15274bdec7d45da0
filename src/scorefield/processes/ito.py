"""Any process, from its drift and its diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._shapes import factor
from scorefield.processes.sde import SDE, Prior


@dataclass(frozen=True)
class ItoSDE(SDE):
    """Any process, from its two functions.

    Args:
        f: drift, (x, t) -> a tensor of x's shape; t comes as () or of a shape that broadcasts against x.
        g: diffusion > 0, likewise, of a shape that broadcasts against x; its component i may depend on component i of x
            alone.
        terminal: the law at time T, needed to sample, not to simulate.
        domain: where each component lives, (low, high); steps beyond it are reflected. Where the noise ends at a
            boundary, as sqrt(x (1 - x)) does, a little less than the whole, since its slope is infinite there.

    It holds functions, which cannot be saved: for `ScoreModel.save` and the command line write a class, as in
    examples/jacobi.py.
    """

    f: Callable[[Tensor, Tensor], Tensor]
    g: Callable[[Tensor, Tensor], Tensor]
    terminal: Prior | None = None
    domain: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.domain[0] < self.domain[1]:
            raise ValueError(f"a domain is (low, high) with low < high; got {self.domain}")

    def confine(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """Reflects at the ends of the domain."""
        low, high = self.domain
        if math.isinf(low) and math.isinf(high):
            return x
        x = torch.where(x < low, 2 * low - x, x)
        return torch.where(x > high, 2 * high - x, x).clamp(low, high)

    def inside(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """4 (x - low) (high - x) / (high - low)^2 squared, or the square of the distance to a single end up to 1."""
        low, high = self.domain
        if math.isinf(low) and math.isinf(high):
            return super().inside(x)
        if math.isinf(low) or math.isinf(high):
            return (x - low if math.isinf(high) else high - x).clamp_max(1) ** 2
        return (4 * (x - low) * (high - x) / (high - low) ** 2) ** 2

    @property
    def prior(self) -> Prior:
        """`terminal`, if it was given."""
        if self.terminal is None:
            raise ValueError(
                "this ItoSDE does not know its law at T: give terminal=NormalPrior(std) or a Prior of yours"
            )
        return self.terminal

    def drift(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b *event"]:
        """f(x, t)."""
        return torch.as_tensor(self.f(x, factor(t, x)), dtype=x.dtype, device=x.device).expand_as(x)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Tensor) -> Tensor:
        """g(x, t)."""
        return torch.as_tensor(self.g(x, factor(t, x)), dtype=x.dtype, device=x.device)
