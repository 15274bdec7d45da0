"""Denoisers of the posterior: guidance that composes with every solver."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._derivatives import lasting, leaf, recording
from scorefield._device import double
from scorefield._inputs import Time
from scorefield._shapes import factor
from scorefield.guidance.measurement import Label, Measurement
from scorefield.operators import MeasurementNoise, Operator
from scorefield.processes import as_point
from scorefield.score import Denoiser


class Look(NamedTuple):
    """The prior at some states.

    Attributes:
        denoised: D.
        noise: ehat.
        covariance: v -> (sigma^2 / alpha) (dD/dx)^T v, which is Cov[x_0 | x_t] v for the true denoiser  (Tweedie's
            formula); for methods that differentiate.
    """

    denoised: Tensor
    noise: Tensor
    covariance: Callable[[Tensor], Tensor]


class PosteriorDenoiser(Denoiser):
    """E[x_0 | x_t, y] = D + (sigma^2 / alpha) grad log p(y | x_t), with a method's own idea of the last term.

    By Bayes' rule grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t), and p(y | x_t) is an average of
    p(y | x_0) over p(x_0 | x_t), which no method knows. A subclass gives `correction`.

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
    def correction(self, x: Float[Tensor, "b *event"], t: Tensor, look: Look) -> Float[Tensor, "b *event"]:
        """What the measurement adds to D."""

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The mean of the clean sample given x_t and y."""
        look = self._look(x, t, cond)
        return look.denoised + self.correction(x, t, look)

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the prior's ehat less alpha / sigma times the correction."""
        x, t = as_point(self.sde, x, t)
        look = self._look(x, t, cond)
        correction = self.correction(x, t, look)
        return look.denoised + correction, look.noise - correction / self._ratio(x, t)

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

    def _look(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Look:
        """One call of the prior's network. Gradients pass through all of it if x has any."""
        if not self.differentiates:
            return Look(*self.denoiser.predictions(x, t, **cond), covariance=_unknown)
        outer = torch.is_grad_enabled() and x.requires_grad
        with recording():
            at = x if outer else leaf(x)
            denoised, noise = self.denoiser.predictions(at, t, **cond)
        t = double(t)
        gain = factor(self.sde.sigma(t) ** 2 / self.sde.alpha(t), x)

        def covariance(v: Tensor) -> Tensor:
            with recording():
                (pulled,) = torch.autograd.grad(denoised, at, lasting(v), retain_graph=True, create_graph=outer)
            return gain * pulled

        return Look(denoised, noise, covariance) if outer else Look(denoised.detach(), noise.detach(), covariance)

    def _ratio(self, x: Tensor, t: Tensor) -> Tensor:
        """s = sigma / alpha, as () or (b, 1, ..)."""
        alpha, sigma = self._scales(x, t)
        return sigma / alpha


def _unknown(v: Tensor) -> Tensor:
    raise TypeError("a method that asks for the covariance must set `differentiates`")
