"""Operators that mix the channels of each place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._inputs import Array, as_tensor
from scorefield.operators.operator import LinearOperator, expect, real


class ChannelMix(LinearOperator):
    """A x = M x at each place: other colours, fewer channels.

    Args:
        matrix: M, (channels out, channels in), finite; acts on the first axis of an event.
    """

    matrix: Tensor
    inverse: Tensor

    def __init__(self, matrix: Array) -> None:
        super().__init__()
        matrix = as_tensor(matrix, "the matrix of ChannelMix")
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("the matrix of ChannelMix must be finite")
        self.register_buffer("matrix", real(matrix, "the matrix of ChannelMix"))
        self.register_buffer("inverse", torch.linalg.pinv(self.matrix))
        self.gram = gram_of(self.matrix)

    def A(self, x: Float[Tensor, "b c_in *space"]) -> Float[Tensor, "b c_out *space"]:
        """M x."""
        expect(self, x, (self.matrix.shape[1], *x.shape[2:]))
        return torch.einsum("oc,bc...->bo...", self.matrix.to(x), x)

    def A_adjoint(self, y: Float[Tensor, "b c_out *space"]) -> Float[Tensor, "b c_in *space"]:
        """M^T y."""
        expect(self, y, (self.matrix.shape[0], *y.shape[2:]))
        return torch.einsum("oc,bo...->bc...", self.matrix.to(y), y)

    def A_dagger(self, y: Float[Tensor, "b c_out *space"]) -> Float[Tensor, "b c_in *space"]:
        """M^+ y."""
        expect(self, y, (self.matrix.shape[0], *y.shape[2:]))
        return torch.einsum("co,bo...->bc...", self.inverse.to(y), y)


class Colorize(LinearOperator):
    """A mean over the channels, as one channel: the grey image whose colours are sought. A A^T = |w|^2 I.

    In an orthonormal colour basis whose first vector is w / |w|, the grey image is the first coordinate times |w|:
    inpainting of the others is the same measurement  (Song et al. 2021, appendix I.3).

    Args:
        weights: w, of each channel; (0.299, 0.587, 0.114) is the luma that most programs make grey pictures of.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[float] = (1 / 3, 1 / 3, 1 / 3)) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.gram = float(self.weights.square().sum())
        if not (len(weights) and 0 < self.gram < math.inf):
            raise ValueError(f"Colorize needs the weights of one channel or more, not all 0; got {tuple(weights)}")

    def A(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b 1 *space"]:
        """The mean."""
        expect(self, x, (len(self.weights), *x.shape[2:]))
        return torch.einsum("c,bc...->b...", self.weights.to(x), x)[:, None]

    def A_adjoint(self, y: Float[Tensor, "b 1 *space"]) -> Float[Tensor, "b c *space"]:
        """w y."""
        expect(self, y, (1, *y.shape[2:]))
        return torch.einsum("c,b...->bc...", self.weights.to(y), y[:, 0])


def gram_of(matrix: Float[Tensor, "m n"]) -> float | None:
    """c if M M^T = c I up to rounding, c > 0."""
    product = matrix @ matrix.mT
    c = float(product.diagonal().mean())
    close = torch.allclose(product, c * torch.eye(len(matrix)).to(matrix), rtol=0, atol=1e-12 * c)
    return c if c > 0 and close else None
