"""Exponential Adams methods: one family of DDIM, ancestral sampling, DPM-Solver++, UniPC and SA-Solver."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.lagrange import against_lagrange, quadrature
from scorefield.solvers.solver import Solver, Step, tau_step


class _Past(NamedTuple):
    """Values of F and D, newest first, their half log-SNRs, and the last step: its eta and what F contributed to it."""

    taus: tuple[float, ...]
    values: tuple[Tensor, ...]
    denoised: tuple[Tensor, ...]
    eta: float
    integral: Tensor


class ExponentialSolver(Solver):
    """Exact in its linear part and its noise, a polynomial through past network outputs for the rest.

    With tau = log(alpha / sigma), s = sigma / alpha, xbar = x / alpha and a guess v of the data's variance, write

        D = c xbar + k F,    c = v / q,    k = s sqrt(v / q),    q = s^2 + v

    F is what `EDMPrecond` lets a network predict, and c xbar the denoiser of N(0, v), so that nothing is left to be
    approximated on such data. The reverse process of stochasticity eta then obeys, exactly,

        xbar_b = P(a, b) xbar_a + sqrt(q_b (1 - (q_b / q_a)^eta)) z + int_a^b (1 + eta) P(tau, b) k(tau) F(tau) dtau
        P(tau, b) = (q_b / q(tau))^((1 + eta) / 2)

    and the method puts for F the polynomial in tau through its last `order` values. v = 0 is data prediction (there
    k = 1 and F = D), which DPM-Solver++, UniPC and SA-Solver use; v = inf noise prediction (k = s, F = -ehat), which
    DPM-Solver and DEIS use; v = 1 velocity prediction of data of unit variance. A finite v is data prediction at
    s >> sqrt(v) and noise prediction at s << sqrt(v). Data prediction alone is stable for any steps; the others are
    from 8 to 12 equal steps of the log-SNR on, noise prediction with eta = 1 from 25.

    With the corrector, a step first repairs the last one by the polynomial that has the value just computed as well,
    which costs no network call  (Zhao et al. 2023, "UniPC"). A last step onto the data is the denoise step D for v = 0
    or eta > 0; else D is carried to s = 0 by a line in s^2, which D is along a smooth path, so that the error is
    O(s^4). F carried there has that order as well, but keeps the noise that a learned D leaves behind at small s.

    The weights are the exact integrals; published methods replace some by values that agree to leading order, such as
    2M the weight of the slope  (Lu et al., arXiv 2211.01095, section 4).

    Subclasses give the numbers.

    Attributes:
        order: number of values in the polynomial, 1 to 4.
        corrector: repair each step by UniPC's corrector.
        eta: stochasticity, >= 0: 0 is the probability-flow ODE, 1 the reverse SDE. DDIM's parameter is another one,
            eta_ddim^2 (1 - e^{-2h}) = 1 - e^{-2 eta h}; they agree at 0 and 1.
        sigma_data: sqrt(v) >= 0; 0 for data prediction, inf for noise prediction.
        interval: eta counts only in steps within these values of sigma / alpha.
    """

    order: int = 1
    corrector: bool = False
    eta: float = 0.0
    sigma_data: float = 0.0
    interval: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"order must be 1, 2, 3 or 4; got {self.order}")
        if not (self.eta >= 0 and self.sigma_data >= 0):
            raise ValueError(f"eta and sigma_data must be at least 0; got {self.eta} and {self.sigma_data}")
        if not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval must hold two rising values of sigma / alpha; got {self.interval}")

    @property
    def convergence_order(self) -> int:
        """`order` up to 2, one more with the corrector, at most 2 with noise.

        A step has order `order` + 1 once the past is long enough, but the first one, which knows a single value, has 2,
        or 3 with the corrector, and its error stays.
        """
        full = min(self.order, 2) + self.corrector
        return min(full, 2) if self.eta else full

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        return self.moved(as_denoiser(model)(x, now.time), x, now, next, state, noise=noise)

    def moved(
        self, denoised: Tensor, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """The step, given D of the states at `now`."""
        past: _Past | None = state
        start = 0.5 * now.log_snr
        taus, past_denoised = (start,), (denoised,)
        if past:
            taus, past_denoised = taus + past.taus, past_denoised + past.denoised
        if next.sigma == 0:
            plain = self.eta or not self.sigma_data
            return Step(denoised if plain else at_the_data(taus[: self.order], past_denoised[: self.order]))
        values = (self._value(denoised, x, now),)
        if past:
            values = values + past.values
            if self.corrector:
                # the change alone is added, so that x keeps what a Langevin corrector has done to it since
                x = x + self._integral(taus, values, past.taus[0], now, past.eta) - past.integral
        taus, values, past_denoised = taus[: self.order], values[: self.order], past_denoised[: self.order]
        s_a, s_b = now.sigma / now.alpha, next.sigma / next.alpha
        eta = self.eta if self.interval[0] <= s_b and s_a <= self.interval[1] else 0.0
        tau_step(now, next, eta)
        v = self.sigma_data**2
        ratio = 1.0 if v == math.inf else (s_b**2 + v) / (s_a**2 + v)
        integral = self._integral(taus, values, start, next, eta)
        y = torch.add(integral, x, alpha=next.alpha / now.alpha * ratio ** ((1 + eta) / 2))
        if eta:
            variance = eta * (s_a**2 - s_b**2) if v == math.inf else -(s_b**2 + v) * math.expm1(eta * math.log(ratio))
            y.add_(noise.normal(x), alpha=next.alpha * math.sqrt(variance))
        return Step(y, _Past(taus, values, past_denoised, eta, integral))

    def _value(self, denoised: Tensor, x: Tensor, now: Knot) -> Tensor:
        """F = (D - c xbar) / k."""
        v, s = self.sigma_data**2, now.sigma / now.alpha
        if v == 0:
            return denoised
        c, k = (1.0, s) if v == math.inf else (v / (s**2 + v), s * math.sqrt(v / (s**2 + v)))
        return (denoised / k).add_(x, alpha=-c / (k * now.alpha))

    def _integral(
        self, taus: tuple[float, ...], values: tuple[Tensor, ...], start: float, end: Knot, eta: float
    ) -> Tensor:
        """alpha_b int_a^b (1 + eta) P k F dtau for the polynomial F in tau through the values."""
        weights = integrals(taus, start, 0.5 * end.log_snr, eta, self.sigma_data**2)
        total = (end.alpha * weights[0]) * values[0]
        for weight, value in zip(weights[1:], values[1:], strict=True):
            total.add_(value, alpha=end.alpha * weight)
        return total


@dataclass(frozen=True)
class ExponentialAdams(ExponentialSolver):
    """Any member of the family.

    Args:
        order: number of values in the polynomial, 1 to 4.
        corrector: repair each step by UniPC's corrector.
        eta: stochasticity, >= 0.
        sigma_data: standard deviation of the data that are treated exactly, >= 0: 0 for data prediction, inf for noise
            prediction.
        interval: eta counts only in steps within these values of sigma / alpha.
    """

    order: int = 4
    corrector: bool = True
    eta: float = 0.0
    sigma_data: float = 1.0
    interval: tuple[float, float] = (0.0, math.inf)


@dataclass(frozen=True)
class DDIM(ExponentialSolver):
    """Denoising diffusion implicit models, deterministic  (Song, Meng & Ermon 2021, eq. 12 with sigma = 0)."""


@dataclass(frozen=True)
class Ancestral(ExponentialSolver):
    """Ancestral sampling: x_b drawn from p(x_b | x_a, x_0 = D)  (Ho et al. 2020, eq. 6-7, for any pair of times)."""

    eta: float = field(default=1.0, init=False, repr=False)


@dataclass(frozen=True)
class DPMSolverPP(ExponentialSolver):
    """DPM-Solver++ in its multistep form, 2M by default; with eta = 1 its SDE form  (Lu et al., arXiv 2211.01095).

    Args:
        order: 1, 2 or 3.
        eta: stochasticity, >= 0.
    """

    order: int = 2
    eta: float = 0.0


@dataclass(frozen=True)
class UniPC(ExponentialSolver):
    """The unified predictor-corrector  (Zhao et al. 2023).

    Args:
        order: of the predictor, 1 to 4.
    """

    order: int = 3
    corrector: bool = field(default=True, init=False, repr=False)


@dataclass(frozen=True)
class SASolver(ExponentialSolver):
    """Stochastic Adams with corrector  (Xue et al. 2023, "SA-Solver", algorithm 1).

    Its tau(t)^2 is eta, in the paper's experiments 1 for sigma / alpha in [0.05, 1] and 0 elsewhere.

    Args:
        order: of the predictor, 1 to 4.
        eta: stochasticity within the interval.
        interval: of sigma / alpha.
    """

    order: int = 3
    corrector: bool = field(default=True, init=False, repr=False)
    eta: float = 1.0
    interval: tuple[float, float] = (0.05, 1.0)


@functools.lru_cache(maxsize=4096)
def integrals(taus: tuple[float, ...], start: float, end: float, eta: float, v: float) -> tuple[float, ...]:
    """int_a^b (1 + eta) P k L_j dtau for the Lagrange polynomials L_j of the taus."""
    tau, w = quadrature(start, end)
    s, s_b = np.exp(-tau), math.exp(-end)
    if v == 0:
        ratio, k = s_b / s, 1.0
    elif v == math.inf:
        ratio, k = 1.0, s
    else:
        ratio, k = np.sqrt((s_b**2 + v) / (s**2 + v)), s * np.sqrt(v / (s**2 + v))
    return against_lagrange(taus, tau, w * (1 + eta) * k * ratio ** (1 + eta))


def at_the_data(taus: tuple[float, ...], denoised: tuple[Tensor, ...]) -> Tensor:
    """The line in s^2 through the newest D and the latest one at twice its s or more, or else the oldest, at s = 0.

    A nearer one would multiply the network's own errors.
    """
    if len(denoised) == 1:
        return denoised[0]
    ratios = [math.exp(2 * (taus[0] - tau)) for tau in taus]
    far = next((k for k, ratio in enumerate(ratios) if ratio >= 4), len(ratios) - 1)
    return denoised[0] + (denoised[0] - denoised[far]) / (ratios[far] - 1)
