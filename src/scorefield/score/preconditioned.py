"""Denoisers made of a network that never sees the process."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._derivatives import followed
from scorefield._device import double
from scorefield._inputs import Time, matching
from scorefield._shapes import factor
from scorefield.processes import GaussianSDE, as_point
from scorefield.score.denoiser import Denoiser
from scorefield.score.protocols import in_its_precision


class Coefs(NamedTuple):
    """Coefficients of a preconditioned network, D = skip x + out F(inp x, noise), each of t's shape."""

    skip: Tensor
    out: Tensor
    inp: Tensor
    noise: Tensor


class Precond(ABC):
    """Coefficients for any Gaussian process and time."""

    @abstractmethod
    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""

    def rest(self, coefs: Coefs, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 - alpha skip, what the skip leaves of x to the noise: sigma ehat = rest x - alpha out F.

        As this difference it puts an error of 1e-16 |x| / sigma into ehat: replace it if there is a closed form.
        """
        return 1 - alpha * coefs.skip


class OfNoise(Precond):
    """F is the noise or the score up to a factor: skip = 1 / alpha, so that there is nothing of x in ehat."""

    def rest(self, coefs: Coefs, alpha: Tensor, sigma: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(alpha)


class Preconditioned(Denoiser):
    """D(x, t) = skip x + out F(inp x, noise): a network F that never sees the process.

    Args:
        net: F(x, noise, **cond) -> a tensor of x's shape; the noise level `noise` is () or (b,).
        sde: the process.
        precond: one of the preconditioners below, or your own.
    """

    def __init__(self, net: nn.Module, sde: GaussianSDE, precond: Precond) -> None:
        super().__init__(sde)
        self.net = net
        self.precond = precond

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """skip x + out F."""
        coefs = self.precond(self.sde, double(t))
        return _mixed(coefs.skip, x, coefs.out, self.raw(x, coefs, **cond))

    def predictions(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """skip x + out F and (rest x - alpha out F) / sigma."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma, coefs, kept = self._coefficients(t)
        f = self.raw(x, coefs, **cond)
        return _mixed(coefs.skip, x, coefs.out, f), _mixed(kept, x, -alpha * coefs.out / sigma, f)

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(alpha out F - rest x) / sigma^2."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma, coefs, kept = self._coefficients(t)
        return _mixed(-kept / sigma, x, alpha * coefs.out / sigma**2, self.raw(x, coefs, **cond))

    def velocity(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(alpha rest / sigma - sigma skip) x - (alpha^2 + sigma^2) / sigma out F."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma, coefs, kept = self._coefficients(t)
        of_x, of_f = alpha * kept - sigma * coefs.skip, -(alpha**2 + sigma**2) / sigma * coefs.out
        return _mixed(of_x, x, of_f, self.raw(x, coefs, **cond))

    def raw(self, x: Float[Tensor, "b *event"], coefs: Coefs, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """F(inp x, noise) by the network in its own precision, in x's dtype."""
        inp, noise, cond = in_its_precision(self.net, factor(coefs.inp, x) * x, coefs.noise, cond)
        return matching(followed(lambda inp: self.net(inp, noise, **cond), inp), x, self.net).to(x.dtype)

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Coefs, Tensor]:
        """alpha, sigma, the preconditioner's and rest / sigma."""
        alpha, sigma, coefs = self.sde.alpha(t), self.sde.sigma(t), self.precond(self.sde, t)
        return alpha, sigma, coefs, self.precond.rest(coefs, alpha, sigma) / sigma


def _mixed(of_x: Tensor, x: Tensor, of_f: Tensor, f: Tensor) -> Tensor:
    return factor(of_x, x) * x + factor(of_f, x) * f


@dataclass(frozen=True)
class EDMPrecond(Precond):
    """Unit variance for the network's input and its target at every noise level  (Karras et al. 2022, table 1).

    With s = sigma / alpha, d = sigma_data:  D = d^2 / (s^2 + d^2) x/alpha + s d / sqrt(s^2 + d^2) F(x / (alpha
    sqrt(s^2 + d^2))). For any Gaussian process: it is the paper's form in x / alpha.

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive; got {self.sigma_data}")

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma, d = sde.alpha(t), sde.sigma(t), self.sigma_data
        total = sigma**2 + (alpha * d) ** 2
        return Coefs(alpha * d**2 / total, sigma * d / total.sqrt(), total.rsqrt(), noise_level(sde, t))

    def rest(self, coefs: Coefs, alpha: Tensor, sigma: Tensor) -> Tensor:
        """sigma^2 / (sigma^2 + alpha^2 d^2)."""
        return (sigma * coefs.inp) ** 2


@dataclass(frozen=True)
class NoisePrecond(OfNoise):
    """F = ehat: the network predicts the noise  (Ho et al. 2020). D = (x - sigma F) / alpha.

    The input is scaled by 1 / sqrt(alpha^2 + sigma^2), which is 1 for VP.
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, -sigma / alpha, torch.hypot(alpha, sigma).reciprocal(), noise_level(sde, t))


@dataclass(frozen=True)
class ScorePrecond(OfNoise):
    """score = F / sigma: the network predicts the score over the kernel's standard deviation  (Song et al. 2021).

    D = (x + sigma F) / alpha; the input is scaled by 1 / sqrt(alpha^2 + sigma^2).
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, sigma / alpha, torch.hypot(alpha, sigma).reciprocal(), noise_level(sde, t))


@dataclass(frozen=True)
class TimePrecond(OfNoise):
    """score = F(x, t) / sigma: the network gets the state and the time as they are  (Song et al. 2021, their tutorial).

    D = (x + sigma F) / alpha. For networks that look at t with fixed frequencies, such as `TutorialUNet`.
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, sigma / alpha, torch.ones_like(t), t)


@dataclass(frozen=True)
class VelocityPrecond(Precond):
    """F = v, the velocity of the process scaled to unit variance  (Salimans & Ho 2022).

    With c = sqrt(alpha^2 + sigma^2):  v = (alpha eps - sigma x_0) / c and D = (alpha x / c - sigma F) / c. It is
    `EDMPrecond(1)` with the sign of F turned.
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        c = torch.hypot(alpha, sigma)
        return Coefs(alpha / c**2, -sigma / c, c.reciprocal(), noise_level(sde, t))

    def rest(self, coefs: Coefs, alpha: Tensor, sigma: Tensor) -> Tensor:
        """sigma^2 / c^2."""
        return (sigma * coefs.inp) ** 2


def noise_level(sde: GaussianSDE, t: Tensor) -> Tensor:
    """log(sigma / alpha) / 4, the noise level as a network sees it  (Karras et al. 2022)."""
    return -0.125 * sde.log_snr(t)
