"""Low-resolution measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.operators.channels import gram_of
from scorefield.operators.operator import LinearOperator

Profile = Callable[[Tensor], Tensor]  # distance in large pixels -> weight


def box(t: Tensor) -> Tensor:
    """1 within half a large pixel: the mean over the block."""
    return (t.abs() < 0.5).to(t)


def cubic(t: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -1/2, which imaging software calls bicubic  (Keys 1981)."""
    t = t.abs()
    near, far = 1 + t**2 * (1.5 * t - 2.5), 2 + t * (-4 + t * (2.5 - 0.5 * t))
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0))


class SuperResolution(LinearOperator):
    """A x = the event with `factor` times fewer numbers along each of its last axes, filtered against aliasing.

    y_i = sum_j w((j + 1/2) / factor - (i + 1/2)) x_j / sum_j w(.) along each axis; the sum in the denominator makes up
    for what is missing at the edges. With `cubic` this is PyTorch's `interpolate(mode="bicubic", antialias=True)`.

    Args:
        factor: an integer >= 1 for both axes of images, or one for each axis of space: `(8,)` for signals. It must
            divide the axis.
        profile: w; `box` for the mean over blocks, where A A^T = I / (product of the factors), or `cubic`. A function
            of one's own must leave the rows of A linearly independent.
    """

    def __init__(self, factor: int | Sequence[int], profile: Profile = box) -> None:
        super().__init__()
        self.factors = tuple(factor) if isinstance(factor, Sequence) else (factor, factor)
        if not self.factors or any(f != int(f) or f < 1 for f in self.factors):
            raise ValueError(f"the factors of SuperResolution must be integers of at least 1; got {factor}")
        if not callable(profile):
            raise TypeError(f"the profile of SuperResolution is a function, box or cubic; got {profile!r}")
        self.profile = profile
        like = torch.zeros((), dtype=torch.float64)
        grams = [gram_of(self._matrix(8 * f, f, like)) for f in self.factors]
        self.gram = None if None in grams else math.prod(g for g in grams if g)

    def A(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *measurement"]:
        """The small event."""
        sizes = x.shape[1:][-len(self.factors) :]
        if len(sizes) < len(self.factors) or any(n % f for n, f in zip(sizes, self.factors, strict=True)):
            raise ValueError(
                f"SuperResolution wanted a batch whose last axes are multiples of {self.factors}; "
                f"got a tensor of shape {tuple(x.shape)}"
            )
        return _along_axes(x, [self._matrix(n, f, x) for n, f in zip(sizes, self.factors, strict=True)])

    def A_adjoint(self, y: Float[Tensor, "b *measurement"]) -> Float[Tensor, "b *event"]:
        """The transposed matrices along the same axes."""
        return _along_axes(y, [matrix.mT for matrix in self._matrices_of(y)])

    def A_dagger(self, y: Float[Tensor, "b *measurement"]) -> Float[Tensor, "b *event"]:
        """M^T (M M^T)^-1 y along each axis: the pseudo-inverse of a Kronecker product is that of its factors."""
        return _along_axes(y, [torch.linalg.solve(m @ m.mT, m).mT for m in self._matrices_of(y)])

    def _matrices_of(self, y: Tensor) -> list[Tensor]:
        sizes = y.shape[1:][-len(self.factors) :]
        if len(sizes) < len(self.factors):
            raise ValueError(
                f"SuperResolution wanted a batch with {len(self.factors)} axes of space; got shape {tuple(y.shape)}"
            )
        return [self._matrix(n * f, f, y) for n, f in zip(sizes, self.factors, strict=True)]

    def _matrix(self, size: int, factor: int, like: Tensor) -> Float[Tensor, "small large"]:
        large = (torch.arange(size).to(like) + 0.5) / factor
        weights = self.profile(large - (torch.arange(size // factor).to(like) + 0.5)[:, None])
        return weights / weights.sum(1, keepdim=True)


def _along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiplies the last axes by one matrix each."""
    for axis, matrix in enumerate(reversed(matrices), start=1):
        x = (x.movedim(-axis, -1) @ matrix.mT).movedim(-1, -axis)
    return x
