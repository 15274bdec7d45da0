"""What measures a sample: y = A(x) + noise, and what linear algebra makes of a linear A."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._shapes import expand

ASYMMETRY = 0.3  # of two curvatures, beyond which a learned matrix is given up


@runtime_checkable
class Operator(Protocol):
    """Any differentiable measurement. Objects of other libraries will do if they have the methods."""

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """What is measured of each sample, (b, *measurement), real or complex."""
        ...


@runtime_checkable
class Linear(Operator, Protocol):
    """A linear measurement. Complex measurements count as pairs of real numbers: the product is Re<u, v>."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        """A^T y, (b, *event): Re<A x, y> = <x, A^T y>."""
        ...

    def A_dagger(self, y: Tensor) -> Tensor:
        """A^+ y, (b, *event): the least-squares solution of least norm."""
        ...


class LinearOperator(nn.Module, ABC):
    """A linear measurement; a subclass gives `A` and `A_adjoint`.

    Its tensors, kept in float64, follow the dtype and device of x at each call; `.to(x)` once spares the copy.

    Attributes:
        gram: c if A A^T = c I, so that A^+ = A^T / c and all singular values are sqrt(c); None otherwise.
    """

    gram: float | None = None

    @abstractmethod
    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """What is measured of each sample, (b, *measurement)."""

    @abstractmethod
    def A_adjoint(self, y: Tensor) -> Tensor:
        """A^T y, (b, *event)."""

    def A_dagger(self, y: Tensor) -> Tensor:
        """A^+ y, by conjugate gradients unless `gram` is known."""
        return self.A_adjoint(y) / self.gram if self.gram else pseudo_inverse(self, y)

    def forward(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """A x."""
        return self.A(x)


def real(values: Tensor, what: str) -> Tensor:
    """In float64; complex numbers are refused."""
    if values.is_complex():
        raise ValueError(
            f"{what} must be of real numbers; got {values.dtype}: measure real and imaginary parts by Stack"
        )
    return values.double()


def expect(operator: object, x: Tensor, shape: Sequence[int | None]) -> None:
    """Refuses a tensor whose rows are not of this shape; None stands for any length."""
    if x.ndim != 1 + len(shape) or any(n not in (None, m) for n, m in zip(shape, x.shape[1:], strict=True)):
        wanted = ", ".join(["b", *("any" if n is None else str(n) for n in shape)])
        raise ValueError(f"{type(operator).__name__} wanted a tensor of shape ({wanted}); got {tuple(x.shape)}")


def flat(y: Tensor) -> Float[Tensor, "b m"]:
    """Each measurement as a vector of real numbers: a complex number counts as two."""
    return (torch.view_as_real(y) if y.is_complex() else y).reshape(len(y), -1)


def unflat(values: Float[Tensor, "b m"], shape: Sequence[int], is_complex: bool) -> Tensor:
    """Measurements of this shape out of their real numbers: the inverse of `flat`."""
    if is_complex:
        return torch.view_as_complex(values.reshape(-1, *shape, 2))
    return values.reshape(-1, *shape)


def zeros_for(operator: object, event_shape: Sequence[int]) -> Tensor:
    """One event of zeros on the operator's device, to try it with."""
    tensors = [*operator.parameters(), *operator.buffers()] if isinstance(operator, nn.Module) else []
    return torch.zeros(1, *event_shape, device=tensors[0].device if tensors else None)


def inner(u: Tensor, v: Tensor) -> Float[Tensor, "b"]:
    """Re<u, v> of each row."""
    return (flat(u) * flat(v)).sum(1)


def conjugate_gradients(
    matrix: Callable[[Tensor], tuple[Tensor, ...]],
    b: Tensor,
    iterations: int,
    tolerance: float = 0.0,
    least: Tensor | float = 0.0,
    reach: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Solves M v = b for a symmetric positive semi-definite M, each row by itself  (Hestenes & Stiefel 1952).

    A row stays as it is once its residual is below `tolerance` |b|, or once M has less curvature along its direction
    than it should: the Jacobian of a learned denoiser is no covariance, and a step along a direction in which it
    cancels the rest of M would lead anywhere.

    With a `reach` M = A V A^T + diag(least) is that of a learned V. For a covariance V <= reach^2 I

        <v, A V A^T v>  >=  |V A^T v|^2 / reach^2        (Cauchy & Schwarz)

    and a step along which there is less is as long as this allows. A row also stays once M is found not to be
    symmetric, as it is after such a step: <p, M q>, for the direction p before q, is 0, and what it is instead, in
    units of (<p, M p> <q, M q>)^(1/2), is how far the curvatures themselves may be wrong.

    Args:
        matrix: v -> M v, (b, *shape), row by row, and any further linear functions of v that were found on the way.
        b: the right-hand sides, real or complex.
        iterations: at most, >= 1.
        tolerance: relative, >= 0.
        least: M - diag(least) should be positive semi-definite; broadcasts against b.
        reach: > 0, broadcasts against V A^T v, which is then the first of the further functions.

    Returns:
        The solution, and the further functions of it, which have cost nothing.
    """
    found: list[Tensor] = []
    residual, direction = b, b
    square = inner(b, b)
    enough = tolerance**2 * square
    before: tuple[Tensor, Tensor] | None = None
    for k in range(iterations):
        product, *others = matrix(direction)
        curvature = inner(direction, product)
        noise = inner(direction, least * direction)
        going = (square > enough) & (curvature > 0) & (curvature >= (1 - 1e-3) * noise)  # less is more than rounding
        length = curvature
        if reach is not None:
            length = torch.maximum(curvature, noise + flat(others[0] / reach).square().sum(1))
            root = curvature.clamp_min(0).sqrt()
            if before:
                going = going & (inner(before[0], product).abs() <= ASYMMETRY * before[1] * root)
            before = direction, root
        step = square / torch.where(going, length, 1)
        going = going & torch.isfinite(step)
        if k % 8 == 7 and not bool(going.any()):
            break
        direction, product, *others = (torch.where(expand(going, u), u, 0) for u in (direction, product, *others))
        step = torch.where(going, step, 0)
        moves = [expand(step, u) * u for u in (direction, *others)]
        found = [u + move for u, move in zip(found, moves, strict=True)] if found else moves
        residual = residual - expand(step, b) * product
        last, square = square, inner(residual, residual)
        ratio = torch.where(going, square / torch.where(going, last, 1), 0)
        direction = torch.where(expand(going, b), residual, 0) + expand(ratio, b) * direction
    return tuple(found)


def pseudo_inverse(operator: Linear, y: Tensor, iterations: int = 1000, tolerance: float | None = None) -> Tensor:
    """A^+ y by conjugate gradients on A^T A v = A^T y, whose iterates stay in the rows' space.

    Rounding is amplified by the square of the condition number: what A shrinks to less than about the root of one
    rounding of its largest singular value is not recovered.

    Args:
        operator: A.
        y: (b, *measurement).
        iterations: at most.
        tolerance: of |A^T (y - A v)|, relative; by default 100 roundings.
    """
    b = operator.A_adjoint(y)
    if tolerance is None:
        tolerance = 100 * torch.finfo(b.dtype).eps
    return conjugate_gradients(lambda v: (operator.A_adjoint(operator.A(v)),), b, iterations, tolerance)[0]
