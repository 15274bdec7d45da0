"""Models of the noisy data: `Score` is what a solver needs at least, `Denoiser` is what networks and guidance build on.

For x_t = alpha x_0 + sigma eps, four views of one function (Tweedie's formula):

    denoiser   D = E[x_0 | x_t]                 noise      ehat = E[eps | x_t] = (x_t - alpha D) / sigma
    score      grad log p_t = -ehat / sigma     velocity   v = alpha ehat - sigma D
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._shapes import expand
from scorefield.sde import SDE, GaussianSDE


@runtime_checkable
class Score(Protocol):
    """A score function and the process that it belongs to."""

    @property
    def sde(self) -> SDE:
        """The forward process."""
        ...

    def score(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b *event"]:
        """grad_x log p_t(x); `t` is () or (b,)."""
        ...


@runtime_checkable
class LogDensity(Score, Protocol):
    """A score that knows what it is the gradient of."""

    def log_density(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b"]:
        """log p_t(x) up to a constant of t; `t` is () or (b,)."""
        ...


class Denoiser(nn.Module, ABC):
    """D(x, t) = E[x_0 | x_t = x] for a Gaussian process; a subclass gives `forward`.

    `t` is a float64 tensor, () or (b,). Conditioning tensors have one row a sample, or none for the whole batch.
    """

    def __init__(self, sde: GaussianSDE) -> None:
        super().__init__()
        self.sde = sde

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The posterior mean of the clean sample."""

    def score(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(alpha D - x) / sigma^2."""
        alpha, sigma = self._scales(x, t)
        return (alpha * self(x, t, **cond) - x) / sigma**2

    def noise(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(x - alpha D) / sigma."""
        alpha, sigma = self._scales(x, t)
        return (x - alpha * self(x, t, **cond)) / sigma

    def velocity(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """alpha ehat - sigma D  (Salimans & Ho 2022)."""
        alpha, sigma = self._scales(x, t)
        denoised = self(x, t, **cond)
        return alpha * (x - alpha * denoised) / sigma - sigma * denoised

    def given(self, **cond: Tensor | int) -> Denoiser:
        """This model under a condition, for example `model.given(label=3)` or one label for each sample."""
        kind = ConditionedDensity if isinstance(self, LogDensity) else Conditioned
        return kind(self, {name: torch.as_tensor(value) for name, value in cond.items()})

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """The model for some rows of a batch of n; a wrapper that holds one value a sample keeps those of the rows."""
        del rows, n
        return self

    def _scales(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return expand(self.sde.alpha(t), x).to(x.dtype), expand(self.sde.sigma(t), x).to(x.dtype)


class Conditioned(Denoiser):
    """A denoiser with its conditioning filled in.

    Args:
        denoiser: takes the conditions as keywords.
        cond: tensors with one row a sample, or () for all samples.
    """

    def __init__(self, denoiser: Denoiser, cond: dict[str, Tensor]) -> None:
        super().__init__(denoiser.sde)
        self.denoiser = denoiser
        self.cond = cond

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The inner denoiser under the condition."""
        return self.denoiser(x, t, **self._bound(x, cond))

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Denoiser:
        """Keeps the rows of each condition."""
        self._check(n)
        cond = {name: value[rows.to(value.device)] if value.ndim else value for name, value in self.cond.items()}
        return type(self)(self.denoiser.select(rows, n), cond)

    def _bound(self, x: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
        self._check(len(x))
        bound = {name: value.to(x.device) for name, value in self.cond.items()}
        if twice := bound.keys() & cond.keys():
            raise ValueError(f"the model is under a condition already; got {', '.join(sorted(twice))} twice")
        return bound | cond

    def _check(self, n: int) -> None:
        for name, value in self.cond.items():
            if value.ndim and len(value) != n:
                raise ValueError(
                    f"the condition {name!r} has {len(value)} rows for {n} samples: give one row a sample, or a scalar"
                )


class ConditionedDensity(Conditioned):
    """The same of a model that knows its log-density."""

    def log_density(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b"]:
        """log p_t(x | cond) up to a constant."""
        inner: Any = self.denoiser
        return inner.log_density(x, t, **self._bound(x, cond))


class FromScore(Denoiser):
    """The denoiser (x + sigma^2 s) / alpha of a plain score function.

    Args:
        model: a score for a Gaussian process.
    """

    def __init__(self, model: Score) -> None:
        if not isinstance(model.sde, GaussianSDE):
            raise TypeError(
                f"a denoiser exists only for a Gaussian process; got {type(model.sde).__name__}: "
                "use a solver that needs the score alone, such as EulerMaruyama, on a grid that does not end at 0"
            )
        super().__init__(model.sde)
        self.model = model

    def forward(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """(x + sigma^2 s) / alpha."""
        alpha, sigma = self._scales(x, t)
        return (x + sigma**2 * self.model.score(x, t, **cond)) / alpha


def as_denoiser(model: Score) -> Denoiser:
    """The model itself if it is a `Denoiser`, else the one that its score gives."""
    return model if isinstance(model, Denoiser) else FromScore(model)


@contextlib.contextmanager
def evaluating(model: object) -> Generator[None]:
    """The model's modules in evaluation mode inside the block, as they were afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def placement(model: object) -> dict[str, Any]:
    """Where samples of the model live: on the device of its first parameter, in float64 if that is, else float32."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if not tensors:
        return {"dtype": torch.get_default_dtype(), "device": torch.device("cpu")}
    double = tensors[0].dtype == torch.float64
    return {"dtype": torch.float64 if double else torch.float32, "device": tensors[0].device}


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
        coefs = self.precond(self.sde, t.double())
        skip, out = (expand(c, x).to(x.dtype) for c in (coefs.skip, coefs.out))
        return skip * x + out * self.raw(x, coefs, **cond)

    def raw(self, x: Float[Tensor, "b *event"], coefs: Coefs, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """F(inp x, noise), in x's dtype."""
        f = self.net(expand(coefs.inp, x).to(x.dtype) * x, coefs.noise.to(x), **cond)
        if f.shape != x.shape:
            raise ValueError(
                f"the network {type(self.net).__name__} returned shape {tuple(f.shape)} for an input of shape "
                f"{tuple(x.shape)}: give it the event shape {tuple(x.shape[1:])}"
            )
        return f.to(x.dtype)


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


@dataclass(frozen=True)
class NoisePrecond(Precond):
    """F = ehat: the network predicts the noise  (Ho et al. 2020). D = (x - sigma F) / alpha.

    The input is scaled by 1 / sqrt(alpha^2 + sigma^2), which is 1 for VP.
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, -sigma / alpha, torch.hypot(alpha, sigma).reciprocal(), noise_level(sde, t))


@dataclass(frozen=True)
class ScorePrecond(Precond):
    """score = F / sigma: the network predicts the score over the kernel's standard deviation  (Song et al. 2021).

    D = (x + sigma F) / alpha; the input is scaled by 1 / sqrt(alpha^2 + sigma^2).
    """

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, sigma / alpha, torch.hypot(alpha, sigma).reciprocal(), noise_level(sde, t))


@dataclass(frozen=True)
class TimePrecond(Precond):
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


def noise_level(sde: GaussianSDE, t: Tensor) -> Tensor:
    """log(sigma / alpha) / 4, the noise level as a network sees it  (Karras et al. 2022)."""
    return -0.125 * sde.log_snr(t)
