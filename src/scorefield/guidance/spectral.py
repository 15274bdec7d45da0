"""Solvers in the basis of an operator's singular vectors."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.guidance.guided_solver import GuidedSolver
from scorefield.operators import SVD, Linear, MeasurementNoise
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers import Step


class Spectral(GuidedSolver):
    """A step in x / alpha that treats the measured coordinates V^T x of A = U S V^T one by one.

    The i-th has been measured as (U^T y)_i / s_i with noise of std sigma_y / s_i. A subclass says how a coordinate and
    the rest move; s = sigma / alpha. Needs the singular value decomposition, of a dense matrix if the operator has no
    closed one, once for each batch.

    Args:
        operator: A.
        y: (1, *measurement) for all samples, or one row for each.
        noise: `Gaussian` or `Noiseless`.
    """

    def __init__(self, operator: Linear, y: Tensor, noise: MeasurementNoise) -> None:
        super().__init__(operator, y, noise)
        variance = noise.variance(self.measurement.y)
        if isinstance(variance, Tensor):
            raise ValueError(f"{type(self).__name__} takes noise of one variance, Gaussian or none; got {noise}")
        self.sigma_y = variance**0.5

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        svd: SVD = state or SVD(self.measurement.linear, x.shape[1:], x.dtype)
        y = svd.measured(self.measurement.rows(svd.operator.A(x)))
        values = svd.values.to(y)
        y, std = y / values, self.sigma_y / values
        z, s, s_next = noise.normal(x), now.sigma / now.alpha, next.sigma / next.alpha
        xbar = x / now.alpha
        if state is None:
            xbar = xbar + svd.synthesis(self.first(y, std, svd.coordinates(xbar), s) - svd.coordinates(xbar))
        denoised = as_denoiser(model)(now.alpha * xbar, now.time)
        moved = self.rest(denoised, xbar, z, s, s_next)
        measured = self.coordinates(
            y, std, svd.coordinates(denoised), svd.coordinates(xbar), svd.coordinates(z), s, s_next
        )
        return Step(next.alpha * (moved + svd.synthesis(measured - svd.coordinates(moved))), svd)

    def first(self, y: Tensor, std: Tensor, c: Tensor, s: float) -> Tensor:
        """The measured coordinates to start from, given those of the prior's draw."""
        return c

    @abstractmethod
    def rest(self, denoised: Tensor, xbar: Tensor, z: Tensor, s: float, s_next: float) -> Tensor:
        """x / alpha at `next` for what is not measured; of the shape of x."""

    @abstractmethod
    def coordinates(
        self, y: Tensor, std: Tensor, denoised: Tensor, c: Tensor, z: Tensor, s: float, s_next: float
    ) -> Tensor:
        """The measured coordinates at `next`, (b, r).

        Args:
            y: as measured, divided by the singular values, (b, r).
            std: of its noise, (r,).
            denoised: those of D.
            c: those of x / alpha.
            z: standard normal.
            s: sigma / alpha now.
            s_next: and at `next`.
        """
