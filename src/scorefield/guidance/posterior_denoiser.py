"""Denoisers of the posterior: guidance that composes with every solver."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._device import double
from scorefield._shapes import factor
from scorefield.guidance.measurement import Label, Measurement
from scorefield.operators import MeasurementNoise, Operator
from scorefield.score import Denoiser


class PosteriorDenoiser(Denoiser):
    """E[x_0 | x_t, y] = D + (sigma^2 / alpha) grad log p(y | x_t), with a method's own idea of the last term.

    By Bayes' rule grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t), and p(y | x_t) is an average of
    p(y | x_0) over p(x_0 | x_t), which no method knows. A subclass gives `forward`.

    Args:
        denoiser: of the prior.
        operator: A.
        y: (1, *measurement) for all samples, or one row for each, in the model's space.
        noise: the law of y given A(x_0), in the units of y.

    Attributes:
        label: what is known of the samples.
        differentiates: whether each call takes gradients of the network, which costs about twice a call each.
    """

    label: ClassVar[Label]
    differentiates: ClassVar[bool]

    def __init__(self, denoiser: Denoiser, operator: Operator, y: Tensor, noise: MeasurementNoise) -> None:
        super().__init__(denoiser.sde)
        self.denoiser, self.measurement = denoiser, Measurement(operator, y, noise)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The mean of the clean sample given x_t and y."""

    def log_target(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """log p(y | x_0) up to a constant."""
        return self.measurement.log_likelihood(x0)

    def select(self, rows: Int64[Tensor, "m"], n: int) -> PosteriorDenoiser:
        """Keeps the rows of y."""
        other = copy.copy(self)
        other._modules = {  # a shallow copy shares the dictionary
            **self._modules,
            "denoiser": self.denoiser.select(rows, n),
            "measurement": self.measurement.select(rows, n),
        }
        return other

    def _ratio(self, x: Tensor, t: Tensor) -> Tensor:
        """s = sigma / alpha, as () or (b, 1, ..)."""
        alpha, sigma = self._scales(x, t)
        return sigma / alpha


def with_pullback(
    denoiser: Denoiser, x: Float[Tensor, "b *event"], t: Tensor, cond: dict[str, Tensor]
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """D and v -> (sigma^2 / alpha) (dD/dx)^T v, which is Cov[x_0 | x_t] v for the true denoiser  (Tweedie's formula).

    Gradients pass through both if x has any.
    """
    outer = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        at = x if outer else x.detach().requires_grad_()
        denoised = denoiser(at, t, **cond)
    t = double(t)
    gain = factor(denoiser.sde.sigma(t) ** 2 / denoiser.sde.alpha(t), x)

    def pullback(v: Tensor) -> Tensor:
        return gain * torch.autograd.grad(denoised, at, v, retain_graph=True, create_graph=outer)[0]

    return denoised if outer else denoised.detach(), pullback
