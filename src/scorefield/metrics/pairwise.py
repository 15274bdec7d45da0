"""Distances between all pairs of two sets, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from scorefield._inputs import Array, as_tensor

BLOCK = 4_000_000  # distances at a time


def flat_pair(x: Array, y: Array, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets as rows of float64; sets of other events, of too few samples, or with NaN or infinities are refused."""
    x, y = as_tensor(x, "x"), as_tensor(y, "y")
    if x.ndim < 1 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < least:
        raise ValueError(
            f"wanted two sets of at least {least} samples of one shape; got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    check_finite(x, y)
    return x.reshape(len(x), -1).double(), y.reshape(len(y), -1).double()


def check_finite(*sets: Tensor) -> None:
    """Refuses NaN and infinite numbers, which distances would hide."""
    for x in sets:
        if broken := int((~torch.isfinite(x)).sum()):
            raise ValueError(f"{broken} of {x.numel()} numbers are NaN or infinite: a solver or the model has diverged")


def distances(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Iterator[Float64[Tensor, "b m"]]:
    """|x_i - y_j| for some rows i after the others.

    `cdist` subtracts products, which leaves rounding errors of about 1e-8 of the two rows' size. So the sets are put
    near 0 first, by a median that a few far rows do not move, and what remains below that is 0: copies are at the
    distance 0.
    """
    shift = y[:1000].median(0).values
    x, y = x - shift, y - shift
    for rows in x.split(max(1, BLOCK // len(y))):
        block, size = torch.cdist(rows, y), rows.norm(dim=1, keepdim=True)  # as near ones have the same
        yield block.masked_fill_(block < 4e-8 * size, 0.0)


def mean_distance(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> float:
    """The mean of |x_i - y_j| over all pairs."""
    return sum(float(block.sum()) for block in distances(x, y)) / (len(x) * len(y))


class Neighbours(NamedTuple):
    """Nearest neighbours, the nearest first.

    Attributes:
        distance: (n, k).
        place: their rows in the reference, (n, k).
    """

    distance: Tensor
    place: Tensor


def nearest(
    x: Shaped[Tensor, "n *event"], reference: Shaped[Tensor, "m *event"], k: int = 1, itself: bool = False
) -> Neighbours:
    """The k nearest samples of a reference by Euclidean distance.

    Args:
        x: samples.
        reference: where the neighbours are looked for; more than k samples.
        k: number of neighbours.
        itself: x is the reference: a sample is no neighbour of its own.
    """
    x, reference = flat_pair(x, reference)
    if itself and len(x) != len(reference):
        raise ValueError(f"with itself=True x is the reference; got {len(x)} and {len(reference)} samples")
    if not 1 <= k <= len(reference) - itself:
        raise ValueError(f"wanted k from 1 to {len(reference) - itself}, the number of others; got {k}")
    found: list[tuple[Tensor, Tensor]] = []
    first = 0
    for block in distances(x, reference):
        if itself:
            own = torch.arange(len(block), device=x.device)
            block[own, first + own] = torch.inf
            first += len(block)
        found.append(block.topk(k, largest=False))
    return Neighbours(*(torch.cat(column) for column in zip(*found, strict=True)))
