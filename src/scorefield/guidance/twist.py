"""What particle methods ask of guidance."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from scorefield.processes import GaussianSDE


class Twisted(NamedTuple):
    """A look at the states of a cloud.

    Attributes:
        denoised: D of the prior.
        guided: the denoiser whose step is taken.
        log_twist: (b,), the logarithm of a guess of p(y | x_t), up to a constant of t. Any positive one is right in the
            limit of many particles.
    """

    denoised: Tensor
    guided: Tensor
    log_twist: Tensor


@runtime_checkable
class Twist(Protocol):
    """A tilted law of x_0: the prior's density times exp(log_target)."""

    @property
    def sde(self) -> GaussianSDE:
        """The forward process."""
        ...

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor) -> Twisted:
        """What to do at x_t, and how likely it is to lead to the target; `t` is ()."""
        ...

    def log_target(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """The tilt of clean samples, such as log p(y | x_0), up to a constant."""
        ...
