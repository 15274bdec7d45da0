"""How far the steps of the ODE solver put a log-density off, from the slopes that they have seen."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from scorefield._shapes import event_sum, factor

# third difference of the slopes at 0, 3/10, 8/9 and 1 of a step by the method of Dormand and Prince: what an embedded
# method of order 3 differs by that does without the slope after the step
THIRD = (-371 / 2300, 0.0, 800 / 2300, 0.0, -1701 / 2300, 1272 / 2300)
MULTIPLES = {5: 60.0, 4: 1.5}  # by the order of a difference: measured


def local_error(
    steepness: Tensor,
    d: int,
    change: Float[Tensor, "b m"],
    y: Float[Tensor, "b m"],
    slope: Float[Tensor, "b m"],
    order: int = 5,
) -> Float[Tensor, "b"]:
    """Estimated error of the log-density by one step, in nats.

    An error of the integrals counts as it is. One of the state counts by its product with the score at the step's end,
    since the exact flow from there on turns log p(u) into the result. What the method and a lower one embedded in it
    differ by, E, is the lower one's error. The method's own is of order 6 in the length of the step: a multiple of
    E^(6 / order), in nats, or of E where that is more than 1 nat. With these multiples 19 of 20 errors are at most as
    large (docs/measurements/likelihood.md). Errors of steps have any sign: of several the squares add up.

    Args:
        steepness: at the end of the step, () or (b,).
        d: the components of the state.
        change: difference of the embedded methods.
        y: the state at the end of the step, and the integrals.
        slope: dy/dv there.
        order: of `change` in the length of the step: 5 by the tableau's own weights, 4 by `THIRD`.
    """
    score = -y[:, :d] - slope[:, :d] / factor(steepness, y)  # of the state
    e = change[:, d:].mean(1).abs() + event_sum(change[:, :d] * score).abs()
    return MULTIPLES[order] * e * e.clamp_max(1) ** (6 / order - 1)
