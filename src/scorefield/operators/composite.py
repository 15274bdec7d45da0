"""Linear operators one after another and side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield.operators.operator import Linear, LinearOperator, expect, flat, unflat, zeros_for
from scorefield.operators.precision import any_precision


class Compose(LinearOperator):
    """A = A_n ... A_2 A_1. A A^T = c_1 ... c_n I if A_i A_i^T = c_i I for each part.

    Args:
        parts: linear, in the order of application: `Compose(Blur(kernel), SuperResolution(4))`.
    """

    def __init__(self, *parts: Linear) -> None:
        super().__init__()
        self.parts, self.registered = checked(self, parts)
        grams = [getattr(part, "gram", None) for part in parts]
        self.gram = None if None in grams else math.prod(c for c in grams if c)

    def A(self, x: Tensor) -> Tensor:
        """A_n ... A_1 x."""
        for part in self.parts:
            x = part.A(x)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """A_1^T ... A_n^T y."""
        for part in reversed(self.parts):
            y = part.A_adjoint(y)
        return y


class Stack(LinearOperator):
    """Several measurements of one x as one vector of real numbers; a complex number counts as two.

    Args:
        parts: linear.
        event_shape: of x, which tells how many numbers each part measures.
    """

    def __init__(self, *parts: Linear, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.registered = checked(self, parts)
        measured = [part.A(zeros_for(part, event_shape)) for part in self.parts]
        self.layouts = [(y.shape[1:], y.is_complex()) for y in measured]
        self.ends = torch.tensor([0, *(flat(y).shape[1] for y in measured)]).cumsum(0).tolist()

    def A(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b m"]:
        """All measurements, part by part."""
        return torch.cat([flat(part.A(x)) for part in self.parts], 1)

    def A_adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b *event"]:
        """The sum of A_i^T y_i."""
        expect(self, y, self.ends[-1:])
        back = [
            part.A_adjoint(unflat(y[:, first:last], *layout))
            for part, (first, last), layout in zip(self.parts, pairwise(self.ends), self.layouts, strict=True)
        ]
        return torch.stack(back).sum(0)


def checked(owner: object, parts: Sequence[Linear]) -> tuple[tuple[Linear, ...], nn.ModuleList]:
    """The parts, and those of them that torch must move along."""
    wrong = [type(part).__name__ for part in parts if not isinstance(part, Linear)]  # pyright: ignore[reportUnnecessaryIsInstance]
    if wrong or not parts:
        raise TypeError(
            f"{type(owner).__name__} wanted linear operators, with A, A_adjoint and A_dagger; got "
            f"{', '.join(wrong) or 'none'}: nonlinear ones take the operator before them, as Clip(-1, 1, operator)"
        )
    parts = tuple(any_precision(part) for part in parts)
    return parts, nn.ModuleList(part for part in parts if isinstance(part, nn.Module))
