"""Time grids that begin at a given noise."""

from __future__ import annotations

import math

from scorefield.sde import GaussianSDE, Knot


def knots_between(sde: GaussianSDE, high: float, low: float, steps: int) -> list[Knot]:
    """`steps` points with s = sigma / alpha from `high` to `low`, equal steps of its logarithm; within the process."""
    first, last = (knot.sigma / knot.alpha for knot in sde.knots([sde.T, sde.t_min]))
    high, low = min(high, first), max(low, last)
    ratio = (low / high) ** (1 / max(1, steps - 1))
    return [sde.knot_at(-2 * math.log(high * ratio**k)) for k in range(steps)]
