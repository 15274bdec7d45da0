"""The law of one step of a solver, found by asking the solver."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield.processes import GaussianSDE, Knot
from scorefield.score import Denoiser
from scorefield.solvers import Solver


class Seen(Denoiser):
    """A denoiser whose value at some states is known already.

    Args:
        sde: the process.
        x: the states.
        now: the knot where they are.
        value: of the denoiser there.
        elsewhere: the denoiser at other states and times; refused if there is none.
    """

    def __init__(
        self,
        sde: GaussianSDE,
        x: Float[Tensor, "b *event"],
        now: Knot,
        value: Float[Tensor, "b *event"],
        elsewhere: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(sde)
        self.x, self.now, self.value, self.elsewhere = x, now, value, elsewhere

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The value, where it is known."""
        if x is self.x and bool((t == self.now.t).all()):
            return self.value
        if self.elsewhere is None:
            raise _Unknown("it asks the model at more than one point")
        return self.elsewhere(x, t)


class Constant:
    """Noise of one draw, all of whose numbers are the same."""

    def __init__(self, value: float) -> None:
        self.value, self.draws = value, 0

    def at(self, step: int) -> Constant:
        """Itself."""
        return self

    def child(self, part: int) -> Constant:
        """Itself."""
        return self

    def select(self, rows: Int64[Tensor, "m"]) -> Constant:
        """Itself."""
        return self

    def normal(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """The number; once."""
        self.draws += 1
        if self.draws > 1:
            raise _Unknown("it draws noise more than once")
        return torch.full_like(like, self.value)

    def uniform(self, like: Float[Tensor, "b *event"], draw: int = 0) -> Float[Tensor, "b *event"]:
        """Refused."""
        raise _Unknown("its noise is not normal alone")


class _Unknown(Exception):
    """Why the law of a step is not known."""


def noise_of_step(solver: Solver, sde: GaussianSDE, now: Knot, next: Knot) -> float:
    """std, if the step has the law N(mean, std^2 I) with a mean that needs the model at x_now alone.

    Raises:
        ValueError: it is not such a law, or has no noise and so no density.
    """
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    try:
        first, second = (
            solver.step(Seen(sde, x, now, 0.5 * x), x, now, next, None, noise=Constant(z)).x[:, 0].tolist()
            for z in (1.0, 0.0)
        )
        std, other = (a - b for a, b in zip(first, second, strict=True))
        if not std > 1e-12 * next.sigma:
            raise _Unknown(f"it adds no noise at sigma / alpha = {now.sigma / now.alpha:.3g}")
        if abs(std - other) > 1e-6 * std:
            raise _Unknown("its noise depends on the state")
    except _Unknown as why:
        raise ValueError(
            f"particles that are guided are weighted by p / q of each step, which {solver} has not, since {why}: take "
            "ExponentialAdams, Ancestral, EulerMaruyama or ReverseDiffusion with eta > 0, or FKSteering, which takes "
            "any solver"
        ) from None
    return std
