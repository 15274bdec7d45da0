"""Processes with a Gaussian kernel."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import pulled_back
from scorefield._device import double
from scorefield._inputs import Time, as_tensor
from scorefield._shapes import factor
from scorefield.processes.sde import DATA, SDE, Knot, NormalPrior

HUGE = 1e150  # whose square float64 holds
LOST = 2.0**20  # noise over signal beyond which the data are lost, and with them most digits of a score


F = TypeVar("F", bound=Callable[..., Tensor])


def _of_numbers(function: F) -> F:
    """The function of time, of plain numbers as well."""

    @functools.wraps(function)
    def taking(self: Any, t: Any) -> Tensor:
        return function(self, t if isinstance(t, Tensor) else double(as_tensor(t, "t")))

    return cast(F, taking)


class GaussianSDE(SDE):
    """x_t = alpha(t) x_0 + sigma(t) eps: a subclass gives `alpha` and `sigma`, with alpha / sigma decreasing.

    The rates and the inverse of the log-SNR follow by automatic differentiation and bisection. The processes below
    replace these by their closed forms; tests hold the two together. At T alpha may vanish, in float64 or altogether.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("alpha", "sigma", "log_snr", "a", "g", "time"):
            if name in vars(cls):
                setattr(cls, name, _of_numbers(vars(cls)[name]))

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the data, > 0."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, > 0 for t > 0."""

    @_of_numbers
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), strictly decreasing in t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @_of_numbers
    def a(self, t: Tensor) -> Tensor:
        """Drift rate d log(alpha)/dt."""
        return _derivative(lambda s: self.alpha(s).log(), t)

    @_of_numbers
    def g(self, t: Tensor) -> Tensor:
        """Diffusion rate: g^2 = d(sigma^2)/dt - 2 a sigma^2."""
        t = t.clamp_min(1e-12 * self.T)  # sigma(t) = sqrt(t) has no derivative at 0, though g has a value
        sigma = self.sigma(t)
        return (2 * sigma * (_derivative(self.sigma, t) - self.a(t) * sigma)).sqrt()

    @_of_numbers
    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`, to float64 resolution, for values in its range."""
        wanted = double(log_snr)
        low, high = torch.zeros_like(wanted), torch.full_like(wanted, self.T)
        for _ in range(64):
            middle = 0.5 * (low + high)
            above = self.log_snr(middle) > wanted
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return high.to(log_snr)

    @functools.cached_property
    def t_start(self) -> float:
        """T, or the earlier time at which sigma / alpha = 2^20 max(1, sigma(T)).

        Beyond it x / sigma stays as it is, to a millionth of the data's size where their unit is about 1, and no model
        is asked: alpha may underflow there, and D = (x + sigma^2 s) / alpha has no digit that is right.
        """
        end = torch.tensor(self.T, dtype=torch.float64)
        faintest = -2 * math.log(LOST * max(1.0, float(self.sigma(end))))
        if float(self.log_snr(end)) >= faintest:
            return self.T
        return float(self.time(torch.tensor(faintest, dtype=torch.float64)))

    @functools.cached_property
    def noisy_at_0(self) -> bool:
        """Whether sigma(0) > 0."""
        return float(self.sigma(torch.zeros((), dtype=torch.float64))) > 0

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
        return factor(self.a(t), x) * x

    def diffusion(self, x: Float[Tensor, "b *event"], t: Tensor) -> Tensor:
        """g(t)."""
        return factor(self.g(t), x)

    def perturb(
        self, x0: Float[Tensor, "b *event"], t: Time, eps: Float[Tensor, "b *event"]
    ) -> Float[Tensor, "b *event"]:
        """alpha(t) x_0 + sigma(t) eps, a draw from p(x_t | x_0) when eps is standard normal; `t` is () or (b,)."""
        t = double(as_tensor(t, "t"))
        return factor(self.alpha(t), x0) * x0 + factor(self.sigma(t), x0) * eps

    def knots(self, times: Sequence[float]) -> list[Knot]:
        """The points of a time grid, each function evaluated once, in float64."""
        values = self._check(times)
        t = torch.tensor([v for v in values if v], dtype=torch.float64)
        columns = (t, self.alpha(t), self.sigma(t), self.log_snr(t), self.a(t), self.g(t))
        rows = iter(torch.stack(columns, 1).tolist())
        knots = [Knot(*next(rows)) if v else DATA for v in values]
        for knot in knots:
            if knot.t and not knot.sigma > 0:
                name = type(self).__name__
                raise ValueError(f"{name} has sigma = {knot.sigma} at t = {knot.t}: wanted noise at every time after 0")
            if not (math.isfinite(knot.alpha) and knot.sigma < HUGE):
                raise ValueError(
                    f"{self}: at t = {knot.t} alpha = {knot.alpha} and sigma = {knot.sigma} are beyond what float64 "
                    f"holds with their squares: wanted sigma below {HUGE:g}; end the process before T = {self.T}"
                )
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


def require_below_one(sde: SDE) -> None:
    """Refuses a T at which g is infinite."""
    if sde.T >= 1:
        raise ValueError(f"{type(sde).__name__} needs T < 1, since its g is infinite at 1; got T={sde.T}")


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    return pulled_back(function, t)[1]
