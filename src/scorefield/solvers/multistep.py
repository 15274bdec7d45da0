"""Linear multistep methods of the noise prediction: iPNDM, DEIS and LMS."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import GaussianSDE, Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.lagrange import against_lagrange, quadrature
from scorefield.solvers.solver import Solver, Step


class _Past(NamedTuple):
    """Noise predictions, newest first, and where they were made."""

    knots: tuple[Knot, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class _NoiseMultistep(Solver):
    """x_b / alpha_b = x_a / alpha_a + sum_j w_j ehat_j, since d(x/alpha) = ehat ds with s = sigma / alpha.

    The methods differ in how they continue ehat beyond its last `order` values.
    """

    order: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"order must be 1, 2, 3 or 4; got {self.order}")

    @property
    def convergence_order(self) -> int:
        """min(order, 2): the first step knows a single value and its error stays."""
        return min(self.order, 2)

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        denoiser = as_denoiser(model)
        value = torch.add(x, denoiser(x, now.time), alpha=-now.alpha).div_(now.sigma)
        past: _Past | None = state
        knots = (now, *(past.knots if past else ()))[: self.order]
        values = (value, *(past.values if past else ()))[: self.order]
        y = (next.alpha / now.alpha) * x
        for weight, ehat in zip(self._weights(denoiser.sde, knots, next), values, strict=True):
            y.add_(ehat, alpha=next.alpha * weight)
        return Step(y, _Past(knots, values))

    @abstractmethod
    def _weights(self, sde: GaussianSDE, knots: tuple[Knot, ...], next: Knot) -> tuple[float, ...]:
        """The weight of each value, newest first."""


@dataclass(frozen=True)
class IPNDM(_NoiseMultistep):
    """The coefficients of Adams and Bashforth for equal steps of s  (Liu et al. 2022; Zhang & Chen 2023, "iPNDM").

    On other grids it takes no notice of the step sizes, which costs accuracy in the limit and gains some at few calls.

    Args:
        order: number of values, 1 to 4.
    """

    def _weights(self, sde: GaussianSDE, knots: tuple[Knot, ...], next: Knot) -> tuple[float, ...]:
        gap = next.sigma / next.alpha - knots[0].sigma / knots[0].alpha
        return tuple(gap * c for c in _ADAMS[len(knots) - 1])


@dataclass(frozen=True)
class DEIS(_NoiseMultistep):
    """A polynomial in time  (Zhang & Chen 2023, "Fast sampling of diffusion models with exponential integrator", tAB).

    A polynomial in the log-SNR instead is `ExponentialAdams(order, corrector=False, sigma_data=inf)`.

    Args:
        order: number of values, 1 to 4.
    """

    order: int = 3

    def _weights(self, sde: GaussianSDE, knots: tuple[Knot, ...], next: Knot) -> tuple[float, ...]:
        return _time_weights(sde, tuple(k.t for k in knots), knots[0].log_snr, next.log_snr)


@dataclass(frozen=True)
class LMS(_NoiseMultistep):
    """A polynomial in s, the linear multistep method of k-diffusion  (Crowson 2022).

    Args:
        order: number of values, 1 to 4.
    """

    def _weights(self, sde: GaussianSDE, knots: tuple[Knot, ...], next: Knot) -> tuple[float, ...]:
        return _scale_weights(tuple(k.sigma / k.alpha for k in knots), next.sigma / next.alpha)


_ADAMS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@functools.lru_cache(maxsize=4096)
def _scale_weights(nodes: tuple[float, ...], end: float) -> tuple[float, ...]:
    """int_a^b L_j(s) ds for the Lagrange polynomials L_j of the nodes."""
    s, w = quadrature(nodes[0], end)
    return against_lagrange(nodes, s, w)


@functools.lru_cache(maxsize=4096)
def _time_weights(sde: GaussianSDE, nodes: tuple[float, ...], start: float, end: float) -> tuple[float, ...]:
    """int_a^b L_j(t) ds for the Lagrange polynomials of the times, by quadrature over the log-SNR."""
    log_snr, w = quadrature(start, end)
    times = sde.time(torch.from_numpy(log_snr)).numpy()
    return against_lagrange(nodes, times, -0.5 * np.exp(-0.5 * log_snr) * w)
