"""What particle methods ask of guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double
from scorefield._shapes import expand, factor
from scorefield.operators.operator import flat
from scorefield.processes import GaussianSDE


class Twisted(NamedTuple):
    """A look at the states of a cloud.

    Attributes:
        denoised: D of the prior.
        guided: the denoiser whose step is taken; None for the prior's own.
        log_twist: (b,), the logarithm of a guess of p(y | x_t), up to a constant of t. Any positive one is right in the
            limit of many particles.
        doubt: (b,), how far log_twist may be from what the target will be; None if the guess has allowed for that.
    """

    denoised: Tensor
    guided: Tensor | None
    log_twist: Tensor
    doubt: Tensor | None = None


@runtime_checkable
class Twist(Protocol):
    """A tilted law of x_0: the prior's density times exp(log_target)."""

    def twisted(self, x: Float[Tensor, "b *event"], t: Tensor) -> Twisted:
        """What to do at x_t, and how likely it is to lead to the target; `t` is ()."""
        ...

    def log_target(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """The tilt of clean samples, such as log p(y | x_0), up to a constant."""
        ...


def foreseen(
    log_target: Callable[[Tensor], Tensor], sde: GaussianSDE, x: Float[Tensor, "b *event"], t: Tensor, denoised: Tensor
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """log_target(D), and its doubt |log_target(D + r u) - log_target(D)|.

    D is the mean of what x_t may become and often nothing that the target knows. The direction u = x_t / alpha - D,
    scaled to a mean square of 1, is that of the noise, and r^2 = s^2 / (1 + s^2) the variance that unit data have left
    at s = sigma / alpha.
    """
    alpha, sigma = sde.alpha(double(t)), sde.sigma(double(t))
    away = x / factor(alpha, x) - denoised
    size = flat(away).square().mean(1).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    r = factor(sigma / (alpha**2 + sigma**2).sqrt(), x)
    value = log_target(denoised)
    return value, (log_target(denoised + r * expand(1 / size, x) * away) - value).abs()
