"""The contract of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import pad


def filled(x: Float[Tensor, "b c *space"], multiple: int) -> Float[Tensor, "b c *larger"]:
    """The features with zeros at the end of each side that is no multiple of a number."""
    missing = [-side % multiple for side in x.shape[2:]]
    return pad(x, [n for count in reversed(missing) for n in (0, count)]) if any(missing) else x


class Network(nn.Module, ABC):
    """F(x, noise, **cond), the trainable part of a `Preconditioned` denoiser.

    The constructor's first two arguments are `event_shape` and `classes`, which the command line fills in from the
    data; every argument is kept as an attribute of its name, so that a saved model can be built again.
    """

    event_shape: Sequence[int]
    classes: int

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "b *event"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
    ) -> Float[Tensor, "b *event"]:
        """The network's output.

        Args:
            x: input, of about unit variance.
            noise: noise level, () or (b,), of the order of 1.
            label: class from 0, -1 for unknown, () or (b,).
            cond: a further condition, one row for each sample.
        """

    def constrain(self) -> None:
        """Puts the weights back where the network wants them; called after each step of the optimiser."""
