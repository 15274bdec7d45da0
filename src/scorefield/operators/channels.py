"""Operators that mix the channels of each place."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.operators.operator import LinearOperator, expect


class ChannelMix(LinearOperator):
    """A x = M x at each place: other colours, fewer channels.

    Args:
        matrix: M, (channels out, channels in), finite; acts on the first axis of an event.
    """

    matrix: Tensor
    inverse: Tensor

    def __init__(self, matrix: Float[Tensor, "c_out c_in"]) -> None:
        super().__init__()
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("the matrix of ChannelMix must be finite")
        self.register_buffer("matrix", matrix.double())
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
    """The mean over the channels, as one channel: the grey image whose colours are sought. A A^T = I / channels.

    In an orthonormal colour basis whose first vector is (1, ..., 1) / sqrt(channels), the grey image is the first
    coordinate / sqrt(channels): inpainting of the others is the same measurement  (Song et al. 2021, appendix I.3).

    Args:
        channels: of an event, its first axis; >= 1.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"Colorize needs at least one channel; got {channels}")
        self.channels, self.gram = channels, 1 / channels

    def A(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b 1 *space"]:
        """The mean."""
        expect(self, x, (self.channels, *x.shape[2:]))
        return x.mean(1, keepdim=True)

    def A_adjoint(self, y: Float[Tensor, "b 1 *space"]) -> Float[Tensor, "b c *space"]:
        """y / channels in each channel."""
        expect(self, y, (1, *y.shape[2:]))
        return (y / self.channels).repeat_interleave(self.channels, 1)


def gram_of(matrix: Float[Tensor, "m n"]) -> float | None:
    """c if M M^T = c I up to rounding, c > 0."""
    product = matrix @ matrix.mT
    c = float(product.diagonal().mean())
    close = torch.allclose(product, c * torch.eye(len(matrix)).to(matrix), rtol=0, atol=1e-12 * c)
    return c if c > 0 and close else None
