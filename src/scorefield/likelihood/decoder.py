"""The last step of a likelihood bound: from the noisy state at t_min to the data."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

REACH = 9.0  # standard deviations of noise that count: beyond lie 2e-19 of its probability
NODES = 600  # of the quadrature over the noise


class Cells(NamedTuple):
    """Integers and the places of their levels: the samples are at the centres.

    Attributes:
        k: the integers, 0 .. levels - 1, (n, *event).
        levels: their number.
        width: distance of neighbouring levels in the model's space, () or of a shape that broadcasts to the event.
    """

    k: Int[Tensor, "n *event"]
    levels: int
    width: Tensor


def normal_decoder(d: int, s: float) -> float:
    """E log N(x; z, s^2) over z ~ N(x, s^2)."""
    return -0.5 * d * math.log(2 * math.pi * math.e * s**2)


def cell_decoder(cells: Cells, s: float) -> Float[Tensor, "n"]:
    """E log P(k | z) over z ~ N(x_k, s^2), for P(k | z) proportional to N(z; x_k, s^2) over the levels.

    By quadrature over the noise: there is nothing random in it.
    """
    width = cells.width.double().cpu().expand(cells.k.shape[1:])
    index = cells.k.long().cpu()
    total = torch.zeros(len(index), dtype=torch.float64)
    for value in width.unique():
        here = width == value
        table = _expected(float(value) / s, cells.levels)
        total += table[index[:, here] if here.ndim else index[:, None]].sum(1)
    return total


def _expected(gap: float, levels: int) -> Float[Tensor, "levels"]:
    """E -log sum_m exp(m gap e - (m gap)^2 / 2) over e ~ N(0, 1) and the levels k + m, for each k."""
    reach = min(levels - 1, math.ceil(3 * REACH / gap))
    e = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = (-0.5 * e**2).exp()
    steps = gap * torch.arange(-reach, reach + 1, dtype=torch.float64)
    exponents = steps[:, None] * e - 0.5 * steps[:, None] ** 2
    # the neighbours below and above by their sums from the level itself outwards
    below = exponents[: reach + 1].flip(0).logcumsumexp(0)
    above = exponents[reach:].logcumsumexp(0)
    k = torch.arange(levels)
    low, high = k.clamp_max(reach), (levels - 1 - k).clamp_max(reach)
    table = torch.empty(levels, dtype=torch.float64)
    for first in range(0, levels, 1024):
        part = slice(first, first + 1024)
        both = torch.logaddexp(below[low[part]], above[high[part]])  # counts the level itself twice
        log_sum = both + torch.log1p(-(-both).exp())
        table[part] = -(log_sum * weight).sum(1) / weight.sum()
    return table
