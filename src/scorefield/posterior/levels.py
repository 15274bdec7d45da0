"""Noise levels from one to another."""

from __future__ import annotations

import math

from scorefield.processes import GaussianSDE, Knot


def knots_between(sde: GaussianSDE, high: float, low: float, steps: int) -> list[Knot]:
    """`steps` points with s = sigma / alpha from `high` to `low`, equal steps of its logarithm; within the process.

    One point alone if the process does not go below `high`.
    """
    first, last = (knot.sigma / knot.alpha for knot in sde.knots([sde.t_start, sde.t_min]))
    high, low = max(min(high, first), last), max(low, last)
    if not low < high:
        return [sde.knot_at(-2 * math.log(high))]
    ratio = (low / high) ** (1 / max(1, steps - 1))
    return [sde.knot_at(-2 * math.log(high * ratio**k)) for k in range(steps)]
