"""The singular value decomposition of a linear operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened
from scorefield._noise import Noise
from scorefield.operators.operator import Linear, flat, unflat, zeros_for
from scorefield.operators.precision import any_precision

LARGEST = 4096  # numbers in an event whose operator is made a dense matrix


class SVD:
    """A = U diag(values) V^T without the singular values that are 0 up to rounding.

    An operator that knows its `gram` c is its own decomposition: U = I, values sqrt(c) and V^T = A / sqrt(c). Of any
    other the dense matrix is decomposed.

    Args:
        operator: A.
        event_shape: of what it acts on.
        dtype: of what it acts on; singular values below 100 roundings of the largest count as 0, or 100 of the
            operator's own precision.

    Attributes:
        values: (r,), positive, in float64.
    """

    def __init__(self, operator: Linear, event_shape: Sequence[int], dtype: torch.dtype = torch.float64) -> None:
        operator = any_precision(operator)
        self.operator, self.event_shape = operator, tuple(event_shape)
        gram: float | None = getattr(operator, "gram", None)
        self.closed, self._scale = bool(gram), math.sqrt(gram or 0)
        if gram:
            clean = operator.A(zeros_for(operator, event_shape))
            self._layout = clean.shape[1:], clean.is_complex()
            self.values = torch.full_like(flat(clean)[0], self._scale, dtype=torch.float64, device="cpu")
        else:
            matrix = matrix_of(operator, event_shape)
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
            rounding = max(100 * torch.finfo(dtype).eps, max(len(u), len(vt)) * torch.finfo(s.dtype).eps)
            v = Noise.per_sample([0]).normal(widened(zeros_for(operator, event_shape)))
            own = flat(operator.A(v))[0] - matrix @ v.flatten()  # what the operator's own arithmetic rounds
            kept = s > max(rounding * float(s.max()), 100 * float(own.norm() / v.norm()))
            self._u, self.values, self._vt = u[:, kept], s[kept], vt[kept]

    def coordinates(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b r"]:
        """V^T x."""
        if self.closed:
            return flat(self.operator.A(x)) / self._scale
        return flat(x) @ self._vt.mT.to(x)

    def synthesis(self, c: Float[Tensor, "b r"]) -> Float[Tensor, "b *event"]:
        """V c."""
        if self.closed:
            return self.operator.A_adjoint(unflat(c, *self._layout)) / self._scale
        return (c @ self._vt.to(c)).reshape(-1, *self.event_shape)

    def measured(self, y: Tensor) -> Float[Tensor, "b r"]:
        """U^T y."""
        return flat(y) if self.closed else flat(y) @ self._u.to(flat(y))


def matrix_of(operator: Linear, event_shape: Sequence[int]) -> Float[Tensor, "m d"]:
    """The real matrix of a linear operator, in float64 where its device has it."""
    d = math.prod(event_shape)
    if d > LARGEST:
        raise ValueError(f"the matrix of an operator on {d} numbers is too large; wanted at most {LARGEST}")
    operator = any_precision(operator)
    like = widened(zeros_for(operator, event_shape))
    basis = torch.eye(d, dtype=like.dtype, device=like.device).reshape(d, *event_shape)
    return torch.cat([flat(operator.A(part)) for part in basis.split(256)]).mT
