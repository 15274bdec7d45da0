"""What is known of the samples: an operator, what it measured, and the noise of that."""

from __future__ import annotations

from enum import Enum

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._derivatives import lasting, with_lasting_buffers
from scorefield.operators import Linear, MeasurementNoise, Operator
from scorefield.operators.operator import conjugate_gradients
from scorefield.operators.precision import any_precision


class Label(Enum):
    """What is known of a method's samples, given the exact prior score.

    Asymptotically exact: from the posterior in the limit of many steps, iterations and particles. Gaussian-exact: so if
    the prior is normal. Heuristic: plausible, but not from the posterior even for a normal prior. Optimiser: a point
    estimate, whose spread says nothing.
    """

    ASYMPTOTICALLY_EXACT = "asymptotically exact"
    GAUSSIAN_EXACT = "Gaussian-exact"
    HEURISTIC = "heuristic"
    OPTIMISER = "optimiser"


class Measurement(nn.Module):
    """y = A(x_0) + noise, in the model's space.

    Args:
        operator: A; a `Linear` one where the method needs it.
        y: (1, *measurement) for all samples, or (n, *measurement) with one row for each.
        noise: the law of y given A(x_0).
    """

    y: Tensor

    def __init__(self, operator: Operator, y: Tensor, noise: MeasurementNoise) -> None:
        super().__init__()
        y = lasting(y)
        with_lasting_buffers(operator)
        if not (y.is_floating_point() or y.is_complex()):
            raise ValueError(
                f"wanted real or complex numbers in the model's space for y; got {y.dtype}: convert integers as the "
                "model's transform does, or use ScoreModel.measured"
            )
        if not bool(torch.isfinite(y).all()):
            raise ValueError(f"y has {int((~torch.isfinite(y)).sum())} values that are not finite: mask them out")
        self.operator, self.noise = any_precision(operator), noise
        self.register_buffer("y", y)

    @property
    def linear(self) -> Linear:
        """The operator, if it is linear."""
        if not isinstance(self.operator, Linear):
            raise TypeError(
                f"this method needs a linear operator with A, A_adjoint and A_dagger; got {self.operator}: derive a "
                "linear one from LinearOperator, which makes an A_dagger; for any other take DPS, TwistedSMC with DPS, "
                "SplitGibbs or DAPS"
            )
        return self.operator

    def residual(self, x0: Float[Tensor, "b *event"]) -> Tensor:
        """y - A(x_0), (b, *measurement)."""
        clean = self.operator.A(x0)
        return self.rows(clean) - clean

    def log_likelihood(self, x0: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
        """log p(y | x_0) up to a constant."""
        clean = self.operator.A(x0)
        return self.noise.log_likelihood(self.rows(clean), clean)

    def ridge(
        self, x0: Float[Tensor, "b *event"], spread: Tensor | float, disturbance: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """r = y - A x_0 - disturbance and (spread A A^T + S)^-1 r, S the covariance of the noise; A must be linear.

        Args:
            x0: clean samples.
            spread: (), or (b, 1, ..) as it broadcasts against x0; > 0.
            disturbance: of the measurement.
        """
        a = self.linear
        clean = a.A(x0)
        y = self.rows(clean)
        residual, variance = y - clean - disturbance, self.noise.variance(y)
        spread = torch.as_tensor(spread).to(x0)
        spread = spread.reshape(-1, *(1,) * (residual.ndim - 1)) if spread.ndim else spread
        gram: float | None = getattr(a, "gram", None)
        if gram:
            return residual, residual / (spread * gram + variance)
        tolerance = 1e-5  # far below what the methods neglect

        def matrix(v: Tensor) -> tuple[Tensor]:
            return (spread * a.A(a.A_adjoint(v)) + variance * v,)

        return residual, conjugate_gradients(matrix, residual, 100, tolerance)[0]

    def rows(self, clean: Tensor) -> Tensor:
        """The y of each sample, in the precision of what is measured of it, `clean`."""
        y = self.y
        if y.shape[1:] != clean.shape[1:] or len(y) not in (1, len(clean)):
            raise ValueError(
                f"the operator measures {tuple(clean.shape[1:])} of a sample, so that y must be "
                f"{(1, *clean.shape[1:])}, or have a row for each of {len(clean)} samples; got {tuple(y.shape)}"
            )
        if y.is_complex() != clean.is_complex():
            kinds = ["complex" if v.is_complex() else "real" for v in (clean, y)]
            raise ValueError(f"the operator measures {kinds[0]} numbers; got a {kinds[1]} y")
        return y.to(clean)

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Measurement:
        """The measurements of some of n samples."""
        if len(self.y) == 1:
            return self
        if len(self.y) != n:
            raise ValueError(f"y has {len(self.y)} rows for {n} samples: give one row for each, or one for all")
        return Measurement(self.operator, self.y[rows.to(self.y.device)], self.noise)
