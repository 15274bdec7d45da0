"""Compressed sensing: matrices, dense or fast, that mix all numbers of an event."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._inputs import Array, as_tensor
from scorefield._noise import Noise
from scorefield.operators.operator import LinearOperator, expect, real


class Dense(LinearOperator):
    """A x = M x for the flattened event.

    Args:
        matrix: M, (m, d), finite.
        event_shape: of d numbers; by default (d,).
    """

    matrix: Tensor

    def __init__(self, matrix: Array, event_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        matrix = as_tensor(matrix, "the matrix of Dense")
        self.event_shape = tuple(matrix.shape[1:] if event_shape is None else event_shape)
        if math.prod(self.event_shape) != matrix.shape[1] or not bool(torch.isfinite(matrix).all()):
            raise ValueError(
                f"wanted a finite matrix with a column for each number of an event {self.event_shape}; "
                f"got one of shape {tuple(matrix.shape)}"
            )
        self.register_buffer("matrix", real(matrix, "the matrix of Dense"))

    def A(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b m"]:
        """M x."""
        expect(self, x, self.event_shape)
        return x.reshape(len(x), -1) @ self.matrix.mT.to(x)

    def A_adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b *event"]:
        """M^T y."""
        expect(self, y, self.matrix.shape[:1])
        return (y @ self.matrix.to(y)).reshape(-1, *self.event_shape)


def gaussian_sensing(event_shape: Sequence[int], measurements: int, *, seed: int) -> Dense:
    """A dense matrix of independent normal numbers of variance 1 / m, so that E |A x|^2 = |x|^2.

    Args:
        event_shape: of what is measured.
        measurements: m, >= 1.
        seed: of the matrix.
    """
    if measurements < 1:
        raise ValueError(f"wanted at least one measurement; got {measurements}")
    zeros = torch.zeros(1, measurements, math.prod(event_shape), dtype=torch.float64)
    return Dense(Noise.per_sample([seed]).normal(zeros)[0] / math.sqrt(measurements), event_shape)


class HadamardSensing(LinearOperator):
    """Random rows of an orthonormal fast transform of the event with random signs. A A^T = I.

    For d = q 2^k numbers, q odd, the transform is the Kronecker product of the Walsh-Hadamard transform of order 2^k
    and, where q > 1, the Hartley transform Re F - Im F of order q: filling up with zeros to a power of two, as is often
    done, would leave rows that are not orthogonal.

    Args:
        event_shape: of what is measured.
        measurements: m, from 1 to d.
        seed: of signs and rows.
    """

    gram = 1.0
    signs: Tensor
    rows: Tensor

    def __init__(self, event_shape: Sequence[int], measurements: int, *, seed: int) -> None:
        super().__init__()
        self.event_shape, d = tuple(event_shape), math.prod(event_shape)
        if not 1 <= measurements <= d:
            raise ValueError(f"wanted from 1 to {d} measurements of an event {self.event_shape}; got {measurements}")
        noise, like = Noise.per_sample([seed]), torch.zeros(1, d, dtype=torch.float64)
        self.register_buffer("signs", noise.child(0).rademacher(like)[0])
        chosen = noise.child(1).uniform(like)[0].argsort(stable=True)[:measurements]
        self.register_buffer("rows", chosen.sort().values)

    def A(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b m"]:
        """The chosen rows."""
        expect(self, x, self.event_shape)
        return _transform(x.reshape(len(x), -1) * self.signs.to(x))[:, self.rows.to(x.device)]

    def A_adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b *event"]:
        """The transform is its own inverse and transpose."""
        expect(self, y, self.rows.shape)
        filled = y.new_zeros(len(y), len(self.signs)).index_copy(1, self.rows.to(y.device), y)
        return (_transform(filled) * self.signs.to(y)).reshape(-1, *self.event_shape)


def _transform(z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    d = z.shape[1]
    power = d & -d  # the largest power of two that divides d
    half = 1
    while half < power:
        a, b = z.reshape(len(z), -1, 2, half).unbind(2)
        z = torch.stack((a + b, a - b), 2)
        half *= 2
    z = z.reshape(len(z), -1, power) / math.sqrt(power)
    if power < d:
        spectrum = torch.fft.fft(z, dim=1, norm="ortho")
        z = spectrum.real - spectrum.imag
    return z.reshape(len(z), d)
