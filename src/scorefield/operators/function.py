"""A linear operator from a plain function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import lasting, unrecorded
from scorefield._noise import Noise
from scorefield.operators.operator import LinearOperator, expect, flat, inner
from scorefield.operators.precision import in_any_precision


class FromFunction(LinearOperator):
    """A x = function(x), with A^T by automatic differentiation: the vector-Jacobian product.

    That the function is linear, treats each row by itself and can be differentiated is tried at random points once.

    Args:
        function: x -> y, (b, *event) to (b, *measurement), real or complex, of differentiable operations of torch.
        event_shape: of x.
        device: where the function computes.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        event_shape: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.function, self.event_shape = partial(in_any_precision, function), tuple(event_shape)
        self.register_buffer("place", torch.zeros((), device=device))  # where others are to try the function
        zeros = torch.zeros(2, *event_shape, device=device)
        noise = Noise.per_sample([0, 1])
        u, v = noise.normal(zeros, 0), noise.normal(zeros, 1)
        with unrecorded():
            a, b, both, alone = (self.function(x) for x in (u, v, 2 * u - 3 * v, u[:1]))
        self.layout = a.shape[1:], a.is_complex()
        size = float(max(a.abs().max(), b.abs().max()))
        tolerance = 1e-4 * size  # far above the rounding of float32, far below what is not linear
        if not float((both - (2 * a - 3 * b)).abs().max()) <= tolerance:
            raise ValueError(
                "the function is not linear: f(2 u - 3 v) is not 2 f(u) - 3 f(v). If it adds a constant, f(0), take it "
                "off f and y; give any other function as an object with a method A"
            )
        if not float((alone - a[:1]).abs().max()) <= tolerance:
            raise ValueError("the function mixes the rows of a batch: a measurement must depend on its own x only")
        if not float((inner(a, b) - inner(u, self.A_adjoint(b))).abs().max()) <= 1e-3 * size**2 * a[0].numel():
            raise ValueError(
                "the function has no derivative: <A u, v> is not <u, A^T v>. It must be made of torch's operations, "
                "without detach, no_grad or NumPy"
            )

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        """function(x)."""
        expect(self, x, self.event_shape)
        return self.function(x)

    def A_adjoint(self, y: Tensor) -> Float[Tensor, "b *event"]:
        """The vector-Jacobian product; differentiable in y."""
        expect(self, y, self.layout[0])

        def real(x: Tensor) -> Tensor:
            return flat(self.function(x))

        with torch.inference_mode(False):  # in which older versions of torch record nothing
            zeros = torch.zeros(len(y), *self.event_shape, dtype=y.real.dtype, device=y.device)
            pull = torch.func.vjp(real, zeros)[1]
            return pull(flat(lasting(y)))[0]
