"""The table of processes that tests run over."""

import math
from dataclasses import dataclass

from scorefield import EDM, SDE, VE, VP, Cosine, GaussianSDE, LinearSDE, NormalPrior, Power, Rectified, SubVP

PROCESSES: list[GaussianSDE] = [VE(), VP(), SubVP(), Power(), Power(math.e), Cosine(), Rectified(), EDM()]


def name(sde: GaussianSDE) -> str:
    return f"{type(sde).__name__}{getattr(sde, 'base', '')}"


class Warming(SDE):
    """dx = -x (1 + t) dt + (1 + t) dw, as a user writes it: without a closed kernel."""

    @property
    def prior(self):
        return NormalPrior(1.0)

    def drift(self, x, t):
        return -x * (1 + t)

    def diffusion(self, x, t):
        return 1 + t


def constant(value: float):
    return lambda t: value + 0 * t


@dataclass(frozen=True, kw_only=True)
class Underflowing(GaussianSDE):
    """A user's two functions: alpha is 0 in float64 from t = 2.73 on, and its logarithm has no derivative."""

    T: float = 3.0

    def alpha(self, t):
        return (-100 * t**2).exp()

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@dataclass(frozen=True, kw_only=True)
class Straight(GaussianSDE):
    """Rectified flow to its end, where alpha = 0 and g is infinite."""

    t_min: float = 1e-3
    t_end: float = 1e-2

    def alpha(self, t):
        return 1 - t

    def sigma(self, t):
        return t


# go on for longer than anything is left of the data, up to an alpha(T) of 0
LONG: list[GaussianSDE] = [
    VP(beta_max=150.0),
    VP(T=12.0),
    VP(T=20.0),
    SubVP(T=20.0),
    LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=40.0),
    LinearSDE(constant(-1.0), constant(math.sqrt(2)), T=1e4),
    LinearSDE(lambda t: -5 - t, lambda t: 1 + t, T=30.0),
    Cosine(T=1 - 1e-12),
    Rectified(T=1 - 1e-15),
    Underflowing(),
    Straight(),
]
