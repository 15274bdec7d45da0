"""The one broadcasting rule: `x` is `(b, *event)`; times and per-sample numbers are `()` or `(b,)`."""

from jaxtyping import Float, Inexact
from torch import Tensor

from scorefield._device import placed


def expand(value: Tensor, like: Inexact[Tensor, "b *event"]) -> Tensor:
    """Views a `()` or `(b,)` tensor so that it broadcasts against `like`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1)) if value.ndim else value


def factor(value: Tensor, like: Inexact[Tensor, "b *event"]) -> Tensor:
    """A `()` or `(b,)` tensor of the host as a factor of `like`: in its dtype, on its device, and of its rank."""
    return placed(expand(value, like), like) if value.ndim else value.to(like.dtype)


def event_sum(x: Float[Tensor, "b *event"]) -> Float[Tensor, "b"]:
    """Sums each sample over its event."""
    return x.reshape(x.shape[0], -1).sum(1)


def event_size(x: Float[Tensor, "b *event"]) -> int:
    """The number d of scalars in one sample (1 for the event shape `()`)."""
    return x[0].numel() if x.shape[0] else int(x.new_empty(x.shape[1:]).numel())
