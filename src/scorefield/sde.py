"""Forward processes dx = f(x, t) dt + g(x, t) dw on [0, T]: data at t = 0, noise at t = T.

A Gaussian process (its SDE is affine in x) is two functions of time:  x_t = alpha(t) x_0 + sigma(t) eps.  They give

    a = d log(alpha)/dt        f = a x        g^2 = d(sigma^2)/dt - 2 a sigma^2        log_snr = log(alpha^2 / sigma^2)

(Song et al. 2021, "Score-based generative modeling through SDEs"; Kingma et al. 2021 for the log-SNR). Functions of
time act elementwise on a tensor `t` and keep its shape and dtype; call them in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield._shapes import event_size, event_sum, expand


class Knot(NamedTuple):
    """One point of a time grid, as Python floats; for a process that is not Gaussian only `t` is set.

    The knot at t = 0 stands for the data themselves (alpha = 1, sigma = 0): a step onto it is the denoise step.
    """

    t: float
    alpha: float = math.nan
    sigma: float = math.nan
    log_snr: float = math.nan
    a: float = math.nan
    g: float = math.nan

    @property
    def time(self) -> Tensor:
        """t as a 0-dimensional float64 tensor, which is what models take."""
        return torch.scalar_tensor(self.t, dtype=torch.float64)


DATA = Knot(t=0.0, alpha=1.0, sigma=0.0, log_snr=math.inf, a=0.0, g=0.0)


@runtime_checkable
class Prior(Protocol):
    """The law from which the reverse process starts."""

    def sample(self, like: Float[Tensor, "b *event"], noise: NoiseSource) -> Float[Tensor, "b *event"]:
        """One sample for each row of `like`, with its shape, dtype and device."""
        ...

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """Log-density in nats."""
        ...


@dataclass(frozen=True)
class NormalPrior:
    """N(0, std^2 I), std > 0."""

    std: float

    def __post_init__(self) -> None:
        if not 0 < self.std < math.inf:
            raise ValueError(f"the prior's std must be positive; got {self.std}")

    def sample(self, like: Float[Tensor, "b *event"], noise: NoiseSource) -> Float[Tensor, "b *event"]:
        """One sample for each row of `like`."""
        return self.std * noise.normal(like)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """-|x|^2 / (2 std^2) - d log(std sqrt(2 pi))."""
        log_normaliser = event_size(x) * (math.log(self.std) + 0.5 * math.log(2 * math.pi))
        return -0.5 * event_sum((x / self.std) ** 2) - log_normaliser


@dataclass(frozen=True, kw_only=True)
class SDE(ABC):
    """An Ito process whose noise acts on each component by itself.

    Args:
        T: time at which the data have become noise, > 0.
        t_min: smallest time for training and likelihoods, in (0, T).
        t_end: time from which sampling takes its last step to the data, in [t_min, T): for a Gaussian process the
            noise-free denoise step.
    """

    T: float = 1.0
    t_min: float = 1e-5
    t_end: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.t_min <= self.t_end < self.T < math.inf:
            raise ValueError(
                f"{type(self).__name__} needs 0 < t_min <= t_end < T; "
                f"got t_min={self.t_min}, t_end={self.t_end}, T={self.T}"
            )

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """The law at time T that the reverse process starts from."""

    @abstractmethod
    def drift(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b *event"]:
        """f(x, t); `t` is () or broadcasts against `x`: a process of yours may write -x * (1 + t)."""

    @abstractmethod
    def diffusion(self, x: Float[Tensor, "b *event"], t: Tensor) -> Tensor:
        """g(x, t) > 0, of a shape that broadcasts against `x`; `t` is () or broadcasts against `x`."""

    def confine(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
        """Puts states that a step of finite length has thrown out of the process's domain back into it."""
        return x

    def inside(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """A factor of 0 at the boundary of the process's domain, with its slope, and up to 1 inside of it."""
        return torch.ones((), dtype=x.dtype, device=x.device)

    def knots(self, times: Sequence[float]) -> list[Knot]:
        """The points of a time grid."""
        return [Knot(t) for t in self._check(times)]

    def simulate(
        self, x0: Float[Tensor, "b *event"], times: Sequence[float], *, noise: NoiseSource
    ) -> Float[Tensor, "n b *event"]:
        """Forward paths by Euler-Maruyama, x_{k+1} = x_k + f h + g sqrt(h) z, one step for each gap of the grid.

        Args:
            x0: the states at times[0].
            times: n increasing times in [0, T].
            noise: step k takes one normal draw from `noise.at(k)`.

        Returns:
            The states at all n times; the first is `x0`, inside the domain.
        """
        values = self._check(times)
        path = [self.confine(x0)]
        for k in range(len(values) - 1):
            x, t, h = path[-1], Knot(values[k]).time, values[k + 1] - values[k]
            if h <= 0:
                raise ValueError(f"a forward simulation needs increasing times; got {values[k]} before {values[k + 1]}")
            z = noise.at(k).normal(x)
            path.append(self.confine(x + h * self.drift(x, t) + math.sqrt(h) * self.diffusion(x, t) * z))
        return torch.stack(path)

    def _check(self, times: Sequence[float]) -> list[float]:
        values = [float(t) for t in times]
        for t in values:
            if not 0 <= t <= self.T * (1 + 1e-12):
                raise ValueError(f"times of {type(self).__name__} lie in [0, {self.T}]; got {t}")
        return values


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
        return torch.as_tensor(self.f(x, expand(t, x).to(x.dtype)), dtype=x.dtype, device=x.device).expand_as(x)

    def diffusion(self, x: Float[Tensor, "b *event"], t: Tensor) -> Tensor:
        """g(x, t)."""
        return torch.as_tensor(self.g(x, expand(t, x).to(x.dtype)), dtype=x.dtype, device=x.device)


class GaussianSDE(SDE):
    """x_t = alpha(t) x_0 + sigma(t) eps: a subclass gives `alpha` and `sigma`, with alpha / sigma decreasing.

    The rates and the inverse of the log-SNR follow by automatic differentiation and bisection. The processes below
    replace these by their closed forms; tests hold the two together.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the data, > 0."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, > 0 for t > 0."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), strictly decreasing in t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def a(self, t: Tensor) -> Tensor:
        """Drift rate d log(alpha)/dt."""
        return _derivative(lambda s: self.alpha(s).log(), t)

    def g(self, t: Tensor) -> Tensor:
        """Diffusion rate: g^2 = d(sigma^2)/dt - 2 a sigma^2."""
        t = t.clamp_min(1e-12 * self.T)  # sigma(t) = sqrt(t) has no derivative at 0, though g has a value
        sigma = self.sigma(t)
        return (2 * sigma * (_derivative(self.sigma, t) - self.a(t) * sigma)).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`, to float64 resolution, for values in its range."""
        low = torch.zeros_like(log_snr, dtype=torch.float64)
        high = torch.full_like(low, self.T)
        for _ in range(64):
            middle = 0.5 * (low + high)
            above = self.log_snr(middle) > log_snr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return high.to(log_snr.dtype)

    @property
    def prior(self) -> NormalPrior:
        """N(0, alpha(T)^2 + sigma(T)^2): has the true variance for data of unit variance."""
        return self.prior_for(1.0)

    def prior_for(self, data_std: float) -> NormalPrior:
        """N(0, alpha(T)^2 data_std^2 + sigma(T)^2): the best isotropic start for data of that standard deviation."""
        knot = self.knots([self.T])[0]
        return NormalPrior(math.hypot(knot.alpha * data_std, knot.sigma))

    def drift(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b *event"]:
        """a(t) x."""
        return expand(self.a(t), x).to(x.dtype) * x

    def diffusion(self, x: Float[Tensor, "b *event"], t: Tensor) -> Tensor:
        """g(t)."""
        return expand(self.g(t), x).to(x.dtype)

    def perturb(
        self, x0: Float[Tensor, "b *event"], t: Tensor, eps: Float[Tensor, "b *event"]
    ) -> Float[Tensor, "b *event"]:
        """alpha(t) x_0 + sigma(t) eps, a draw from p(x_t | x_0) when eps is standard normal; `t` is () or (b,)."""
        t = t.double()
        return expand(self.alpha(t), x0).to(x0.dtype) * x0 + expand(self.sigma(t), x0).to(x0.dtype) * eps

    def knots(self, times: Sequence[float]) -> list[Knot]:
        """The points of a time grid, each function evaluated once, in float64."""
        values = self._check(times)
        t = torch.tensor([v for v in values if v], dtype=torch.float64)
        columns = (t, self.alpha(t), self.sigma(t), self.log_snr(t), self.a(t), self.g(t))
        rows = iter(torch.stack(columns, 1).tolist())
        knots = [Knot(*next(rows)) if v else DATA for v in values]
        for one, other in pairwise(knots):
            if (other.t - one.t) * (other.log_snr - one.log_snr) > 0:
                raise ValueError(
                    f"{self}: alpha / sigma must decrease in time; got the log-SNR {one.log_snr} at t = {one.t} and "
                    f"{other.log_snr} at t = {other.t}"
                )
        return knots

    def knot_at(self, log_snr: float) -> Knot:
        """The point of a given log-SNR, evaluated in float64."""
        return self.knots([float(self.time(torch.scalar_tensor(log_snr, dtype=torch.float64)))])[0]


def diffusion_and_slope(sde: SDE, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | float]:
    """g(x, t) and the derivative of each component by its own component of x."""
    if isinstance(sde, GaussianSDE):
        return sde.diffusion(x, t), 0.0
    with torch.enable_grad():
        inner = x if x.requires_grad else x.detach().requires_grad_()
        g = sde.diffusion(inner, t)
        if not g.requires_grad:
            return g, 0.0
        total = g.expand_as(inner).sum()
        (slope,) = torch.autograd.grad(
            total, inner, create_graph=x.requires_grad, allow_unused=True, materialize_grads=True
        )
    return (g, slope) if x.requires_grad else (g.detach(), slope)


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        value = function(t)
        return torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)
