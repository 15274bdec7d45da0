"""Forward processes dx = f(x, t) dt + g(x, t) dw on [0, T]: data at t = 0, noise at t = T.

A Gaussian process (its SDE is affine in x) is two functions of time:  x_t = alpha(t) x_0 + sigma(t) eps.  They give

    a = d log(alpha)/dt        f = a x        g^2 = d(sigma^2)/dt - 2 a sigma^2        log_snr = log(alpha^2 / sigma^2)

(Song et al. 2021, "Score-based generative modeling through SDEs"; Kingma et al. 2021 for the log-SNR). Functions of
time act elementwise on a tensor `t` and keep its shape and dtype; call them in float64.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double
from scorefield._inputs import Time, as_tensor
from scorefield._noise import NoiseSource
from scorefield._shapes import event_size, event_sum


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

    @property
    def size(self) -> float:
        """sqrt(alpha^2 + sigma^2), the standard deviation of x_t for data of unit variance."""
        return math.hypot(self.alpha, self.sigma)


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
        check_size(self.std, like.dtype)
        return self.std * noise.normal(like)

    def log_prob(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """-|x|^2 / (2 std^2) - d log(std sqrt(2 pi))."""
        log_normaliser = event_size(x) * (math.log(self.std) + 0.5 * math.log(2 * math.pi))
        return -0.5 * event_sum((x / self.std) ** 2) - log_normaliser


def check_size(std: float, dtype: torch.dtype) -> None:
    """Refuses states whose standard deviation a floating-point type cannot hold with all its digits."""
    info = torch.finfo(dtype)
    if not info.tiny / info.eps < std < info.max * info.eps:
        raise ValueError(
            f"{str(dtype).removeprefix('torch.')} cannot hold states of standard deviation {std:.3g}: take a process "
            "with a smaller T, or float64"
        )


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

    @functools.cached_property
    def t_start(self) -> float:
        """Where solvers start: T, unless nothing is left of the data from an earlier time on (see `GaussianSDE`)."""
        return self.T

    @functools.cached_property
    def noisy_at_0(self) -> bool:
        """Whether x_0 as the process has it is the data with noise: then a model has a score at t = 0."""
        return False

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

    def _check(self, times: Sequence[float] | float) -> list[float]:
        values = [float(t) for t in (times if isinstance(times, Iterable) else (times,))]
        for t in values:
            if not 0 <= t <= self.T * (1 + 1e-12):
                raise ValueError(f"times of {type(self).__name__} lie in [0, {self.T}]; got {t}")
        return values


def as_point(sde: SDE, x: Float[Tensor, "b *event"], t: Time, data: bool = False) -> tuple[Tensor, Tensor]:
    """States as real numbers, and their time in (0, T], () or (b,), as a float64 tensor; with `data` also t = 0.

    Raises:
        ValueError: there is no such time. Those on a GPU are not looked at, which would have to wait for them.
    """
    x = as_tensor(x, "x")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    time = double(as_tensor(t, "t"))
    if x.ndim == 0 or time.ndim > 1 or (time.ndim and len(time) != len(x)):
        raise ValueError(
            f"wanted states (n, *event) and one time, or one for each; got shapes {tuple(x.shape)} and "
            f"{tuple(time.shape)}"
        )
    if time.is_cuda or not time.numel() or torch.compiler.is_compiling():
        return x, time
    least, most = (time, time) if time.ndim == 0 else time.aminmax()
    first = 0.0 if data or sde.noisy_at_0 else 5e-324
    if not first <= least.item() <= most.item() <= sde.T * (1 + 1e-6):
        wrong = f"{least.item():g}" if time.ndim == 0 else f"{least.item():g} to {most.item():g}"
        raise ValueError(
            f"a model of {type(sde).__name__} takes times in (0, {sde.T:g}]; got {wrong}: at t = 0 the data have no "
            f"score, begin at t_min = {sde.t_min:g}"
        )
    return x, time
