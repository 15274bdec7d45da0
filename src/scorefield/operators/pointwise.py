"""Operators that act on each number by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Inexact
from torch import Tensor

from scorefield._inputs import Array, as_tensor
from scorefield.operators.operator import LinearOperator, expect


class Identity(LinearOperator):
    """A x = x: denoising."""

    gram = 1.0

    def A(self, x: Inexact[Tensor, "b *event"]) -> Tensor:
        """x itself."""
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """y itself."""
        return y


class Mask(LinearOperator):
    """The observed numbers of an event, in its order: inpainting. A A^T = I.

    Args:
        mask: True where a number is observed; broadcasts against an event, so (h, w) serves all channels of (c, h, w).
        event_shape: what A^T returns; by default the mask's own shape.
    """

    gram = 1.0
    observed: Tensor

    def __init__(self, mask: Array, event_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        mask = as_tensor(mask, "the mask").bool()
        self.event_shape = tuple(mask.shape if event_shape is None else event_shape)
        if not broadcasts(mask, self.event_shape):
            raise ValueError(f"a mask of shape {tuple(mask.shape)} does not broadcast to events {self.event_shape}")
        if not bool(mask.any()):
            raise ValueError("the mask observes nothing: it must be True somewhere")
        self.register_buffer("observed", mask.expand(self.event_shape).flatten().nonzero()[:, 0])

    def A(self, x: Inexact[Tensor, "b *event"]) -> Inexact[Tensor, "b m"]:
        """The observed numbers."""
        expect(self, x, self.event_shape)
        return x.reshape(len(x), -1)[:, self.observed.to(x.device)]

    def A_adjoint(self, y: Inexact[Tensor, "b m"]) -> Inexact[Tensor, "b *event"]:
        """y where observed, 0 elsewhere."""
        expect(self, y, (len(self.observed),))
        filled = y.new_zeros(len(y), torch.Size(self.event_shape).numel())
        return filled.index_copy(1, self.observed.to(y.device), y).reshape(-1, *self.event_shape)


class Diagonal(LinearOperator):
    """A x = w x: a change of units, a window, a sensitivity. A A^T = w^2 I where |w| is the same everywhere.

    Args:
        weights: w, real and finite; a number, or a tensor that broadcasts against an event.
    """

    weights: Tensor

    def __init__(self, weights: float | Array) -> None:
        super().__init__()
        weights = as_tensor(weights, "the weights of Diagonal")
        if weights.is_complex() or not bool(torch.isfinite(weights).all()):
            raise ValueError("the weights of Diagonal must be real and finite")
        self.register_buffer("weights", weights.double())
        size = float(self.weights.abs().max())
        self.gram = size**2 if size and bool((self.weights.abs() == size).all()) else None

    def A(self, x: Inexact[Tensor, "b *event"]) -> Inexact[Tensor, "b *event"]:
        """w x."""
        if not broadcasts(self.weights, x.shape[1:]):
            raise ValueError(
                f"Diagonal has weights of shape {tuple(self.weights.shape)}, which do not broadcast to events of shape "
                f"{tuple(x.shape[1:])}"
            )
        return x * self.weights.to(x.real)

    def A_adjoint(self, y: Inexact[Tensor, "b *event"]) -> Inexact[Tensor, "b *event"]:
        """w y."""
        return self.A(y)

    def A_dagger(self, y: Inexact[Tensor, "b *event"]) -> Inexact[Tensor, "b *event"]:
        """y / w, and 0 where w is 0."""
        w = self.weights.to(y.real)
        return torch.where(w == 0, 0, y / torch.where(w == 0, 1, w))


def broadcasts(value: Tensor, shape: Sequence[int]) -> bool:
    """Whether `value` expands to exactly this shape."""
    trailing = shape[len(shape) - value.ndim :]
    return value.ndim <= len(shape) and all(n in (1, m) for n, m in zip(value.shape, trailing, strict=True))
