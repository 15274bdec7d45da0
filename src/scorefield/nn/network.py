"""The contract of a network."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import pad

from scorefield.nn.seeding import seeded


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
        **scalars: Tensor,
    ) -> Float[Tensor, "b *event"]:
        """The network's output.

        Args:
            x: input, of about unit variance.
            noise: noise level, () or (b,), of the order of 1.
            label: class from 0, -1 for unknown, () or (b,).
            cond: a further condition, one row for each sample.
            scalars: further numbers in [0, 1] by their names, () or (b,), of a network that is told any.
        """

    def told(self, *names: str, seed: int) -> Network:
        """A copy that is told further numbers in [0, 1] by these names, and gives the same whatever they are.

        Args:
            names: of the numbers, for networks whose constructor takes them as `scalars`.
            seed: of the layers that are new; the last of them begin at 0.
        """
        own = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        if "scalars" not in own:
            raise TypeError(
                f"{type(self).__name__} cannot be told further numbers: take an MLP, UNet, NCSNpp or EDM2UNet, or give "
                "yours an argument `scalars` as these have it"
            )
        if any(name in own["scalars"] for name in names):
            raise ValueError(f"this network is told {', '.join(own['scalars'])} already")
        with seeded(seed):
            other = type(self)(**{**own, "scalars": (*own["scalars"], *names)})
        first = next(self.parameters())
        other.to(first.device, first.dtype)
        other.load_state_dict(self.state_dict(), strict=False)
        return other

    def constrain(self) -> None:
        """Puts the weights back where the network wants them; called after each step of the optimiser."""
