"""Distances between laws by a kernel or by pairwise distances."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from scorefield.metrics.pairwise import distances, flat_pair, mean_distance


class Estimate(NamedTuple):
    """A mean over parts, and the standard deviation over them."""

    value: float
    spread: float


def kid(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The kernel distance: unbiased squared MMD with the kernel (x . y / d + 1)^3, mean and spread over subsets.

    (Binkowski et al. 2018, "Demystifying MMD GANs".) It is 0 on average for two sets of one law at any number of
    samples, and may come out negative. It is the KID if the features are those of the 2015 Inception network.

    Args:
        x: features.
        y: features.
        subsets: random subsets that are averaged over.
        subset_size: samples of each set in a subset; by default 1000, at most half of the smaller set.
        seed: of the subsets.

    Returns:
        The mean over subsets, and their standard deviation as the literature reports it: of halves it is about the
        standard error of the mean (the jackknife that leaves half out), of smaller subsets more than that.
    """
    x, y = flat_pair(x, y, 4)
    most = min(len(x), len(y))
    size = min(1000, most // 2) if subset_size is None else min(subset_size, most)
    if size < 2 or subsets < 1:
        raise ValueError(f"wanted subsets >= 1 of at least 2 samples; got {subsets} of {size}")
    generator = torch.Generator().manual_seed(seed)
    values: list[Tensor] = []
    for _ in range(subsets):
        a, b = (v[torch.randperm(len(v), generator=generator)[:size].to(v.device)] for v in (x, y))
        values.append(_unbiased(*((p @ q.mT / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))))
    found = torch.stack(values)
    return Estimate(float(found.mean()), float(found.std(correction=0)))


def mmd(x: Shaped[Tensor, "n *event"], y: Shaped[Tensor, "m *event"], *, bandwidth: float | None = None) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 bandwidth^2)).

    (Gretton et al. 2012, "A kernel two-sample test", equation 3.) It is 0 on average for two sets of one law.

    Args:
        x: samples.
        y: samples.
        bandwidth: of the kernel, in the samples' units; by default the median distance between samples of both sets,
            at most 1000 of them.
    """
    x, y = flat_pair(x, y, 2)
    if bandwidth is None:
        both = torch.cat((x, y))
        chosen = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))[:1000]
        bandwidth = float(torch.pdist(both[chosen.to(both.device)]).median())
    if not bandwidth > 0:
        raise ValueError(f"the bandwidth must be above 0; got {bandwidth}: if most samples are equal, give one")

    def mean(a: Tensor, b: Tensor) -> float:
        kernels = (torch.exp(block.square() / (-2 * bandwidth**2)).sum() for block in distances(a, b))
        return sum(map(float, kernels))

    n, m = len(x), len(y)
    return (mean(x, x) - n) / (n * (n - 1)) + (mean(y, y) - m) / (m * (m - 1)) - 2 * mean(x, y) / (n * m)


def energy_distance(x: Shaped[Tensor, "n *event"], y: Shaped[Tensor, "m *event"]) -> float:
    """(2 E|x - y| - E|x - x'| - E|y - y'|)^(1/2) of the two empirical laws, in the samples' units.

    (Szekely & Rizzo 2013, "Energy statistics".) It is a distance of laws without parameters; 0 only for equal sets. The
    estimate is not unbiased: for two sets of one law it is of the order n^(-1/2).

    Args:
        x: samples.
        y: samples.
    """
    x, y = flat_pair(x, y)
    return max(0.0, 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)) ** 0.5


def _unbiased(xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """The squared MMD of kernel matrices, without what a sample has in common with itself."""
    within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return within[0] + within[1] - 2 * xy.mean()
