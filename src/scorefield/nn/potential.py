"""Networks that are gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._derivatives import lasting, leaf, recording
from scorefield.nn.network import Network


class Potential(Network):
    """F(x, noise) = grad_x G with the scalar G(x, noise) = <x, N(x, noise)> of a network N.

    The gradient of a function has a symmetric Jacobian and no circulation, which N by itself has not. In training it
    is differentiated twice.

    Args:
        net: N.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        self.event_shape, self.classes = net.event_shape, net.classes

    def value(
        self,
        x: Float[Tensor, "b *event"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
    ) -> Float[Tensor, "b"]:
        """G(x, noise)."""
        return (x * self.net(x, noise, label, cond).to(x.dtype)).reshape(len(x), -1).sum(1)

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
    ) -> Float[Tensor, "b *event"]:
        """grad_x G(x, noise)."""
        recorded = torch.is_grad_enabled()  # by training, or for the derivatives of the score
        with recording():
            if not (recorded and x.requires_grad):
                x = leaf(x)
            noise = lasting(noise)
            label, cond = (None if given is None else lasting(given) for given in (label, cond))
            total = self.value(x, noise, label, cond).sum()
            return torch.autograd.grad(total, x, create_graph=recorded)[0]
