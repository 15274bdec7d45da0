"""Exponential Adams methods: one family of DDIM, ancestral sampling, DPM-Solver++, UniPC and their stochastic forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.score import Score, as_denoiser
from scorefield.sde import Knot
from scorefield.solvers.solver import Solver, Step


class _Past(NamedTuple):
    """Denoised states, newest first, the half log-SNRs of theirs, and what they contributed to the last step."""

    taus: tuple[float, ...]
    denoised: tuple[Tensor, ...]
    integral: Tensor


class ExponentialSolver(Solver):
    """Exact in its linear part and its noise, a polynomial through past denoised states for the rest.

    With tau = log(alpha / sigma), h = tau_b - tau_a and H = (1 + eta) h, the reverse process of stochasticity eta obeys

        x_b = alpha_b/alpha_a e^-H x_a + sigma_b sqrt(1 - e^{-2 eta h}) z
              + alpha_b int_0^h (1 + eta) e^{-(1 + eta)(h - u)} D(u) du

    exactly, and the method puts for D the polynomial through its last `order` values. With the corrector, a step first
    repairs the last one by the polynomial that has the value just computed as well, which costs no network call
    (Zhao et al. 2023, "UniPC"). A step onto the data (sigma_b = 0) is the denoise step of the sampling loop.

    The weights are the exact integrals; published methods replace some by values that agree to leading order, such as
    2M the weight of the slope  (Lu et al., arXiv 2211.01095, section 4).

    Subclasses give the three numbers.

    Attributes:
        order: number of denoised states in the polynomial, 1 to 4.
        corrector: repair each step by UniPC's corrector.
        eta: stochasticity, >= 0: 0 is the probability-flow ODE, 1 the reverse SDE. DDIM's parameter is another one,
            eta_ddim^2 (1 - e^{-2h}) = 1 - e^{-2 eta h}; they agree at 0 and 1.
    """

    order: int = 1
    corrector: bool = False
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"order must be 1, 2, 3 or 4; got {self.order}")
        if not self.eta >= 0:
            raise ValueError(f"eta must be at least 0; got {self.eta}")

    @property
    def convergence_order(self) -> int:
        """`order` up to 2, one more with the corrector, at most 2 with noise.

        A step has order `order` + 1 once the past is long enough, but the first one, which knows a single denoised
        state, has 2, or 3 with the corrector, and its error stays.
        """
        full = min(self.order, 2) + self.corrector
        return min(full, 2) if self.eta else full

    @property
    def calls(self) -> int:
        """1."""
        return 1

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        past: _Past | None = state
        start, end = 0.5 * now.log_snr, 0.5 * next.log_snr
        taus, denoised = (start,), (as_denoiser(model)(x, now.time),)
        if past:
            taus, denoised = taus + past.taus, denoised + past.denoised
            if self.corrector:
                # the change alone is added, so that x keeps what a Langevin corrector has done to it since
                x = x + now.alpha * self._integral(taus, denoised, past.taus[0], start) - past.integral
        taus, denoised = taus[: self.order], denoised[: self.order]
        integral = next.alpha * self._integral(taus, denoised, start, end)
        h = end - start
        y = torch.add(integral, x, alpha=next.alpha / now.alpha * math.exp(-(1 + self.eta) * h))
        if self.eta:
            if h < 0:
                raise ValueError(
                    "with eta > 0 ExponentialAdams runs from noise to data only: use EulerMaruyama, or eta = 0"
                )
            y.add_(noise.normal(x), alpha=next.sigma * math.sqrt(-math.expm1(-2 * self.eta * h)))
        return Step(y, _Past(taus, denoised, integral))

    def _integral(self, taus: tuple[float, ...], denoised: tuple[Tensor, ...], start: float, end: float) -> Tensor:
        """int_0^h (1 + eta) e^{-(1 + eta)(h - u)} P(u) du for the polynomial P through the denoised states."""
        h = end - start
        weights = _weights([(tau - start) / h for tau in taus], (1 + self.eta) * h)
        total = weights[0] * denoised[0]
        for weight, value in zip(weights[1:], denoised[1:], strict=True):
            total.add_(value, alpha=weight)
        return total


@dataclass(frozen=True)
class ExponentialAdams(ExponentialSolver):
    """Any member of the family.

    Args:
        order: number of denoised states in the polynomial, 1 to 4.
        corrector: repair each step by UniPC's corrector.
        eta: stochasticity, >= 0.
    """

    order: int = 2
    corrector: bool = False
    eta: float = 0.0


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


def _weights(nodes: Sequence[float], H: float) -> list[float]:
    """w_j = int_0^1 H e^{-H (1 - v)} L_j(v) dv for the Lagrange polynomials L_j of the nodes."""
    moments = _moments(len(nodes), H)
    weights: list[float] = []
    for j, node in enumerate(nodes):
        polynomial = [1.0]  # coefficients of the product of (v - other) / (node - other), lowest first
        for other in (*nodes[:j], *nodes[j + 1 :]):
            shifted = [0.0, *polynomial]
            polynomial = [
                (high - other * low) / (node - other) for high, low in zip(shifted, [*polynomial, 0.0], strict=True)
            ]
        weights.append(sum(c * m for c, m in zip(polynomial, moments, strict=True)))
    return weights


def _moments(count: int, H: float) -> list[float]:
    """m_k = int_0^1 H e^{-H (1 - v)} v^k dv: by parts m_k = 1 - k m_{k-1} / H, which cancels for small H."""
    if abs(H) < 1:
        # the power series in H, whose terms are those of int (1 - v)^n v^k dv / n! = k! / (n + k + 1)!
        return [
            H * sum((-H) ** n * math.factorial(k) / math.factorial(n + k + 1) for n in range(16)) for k in range(count)
        ]
    moments = [-math.expm1(-H)]
    for k in range(1, count):
        moments.append(1 - k * moments[-1] / H)
    return moments
