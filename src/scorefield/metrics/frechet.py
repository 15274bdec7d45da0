"""The Frechet distance between features."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float64
from torch import Tensor

from scorefield._memory import check_fits
from scorefield.metrics.statistics import FeatureStats, shortened

PAIRS = 4_000_000  # of eigenvalues at a time
CUBE = 1.3e-13  # hours that the singular values of n x n numbers take on one core, over n^3


def frechet_distance(a: FeatureStats, b: FeatureStats) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)): the squared W2 distance of normal laws with these moments.

    (Dowson & Landau 1982; Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.) It is the
    FID if the features are those of the 2015 Inception network, and not otherwise. The trace of the root is the nuclear
    norm of R_a R_b^T for S = R^T R: real by construction, and exact with fewer samples than features.

    Two sets of one law have a distance as well: see `expected_frechet`.

    Raises:
        ValueError: the sets have different features, or fewer than two samples, or what is needed does not fit into
            memory.
    """
    a.check_same_features(b)
    if (a.n is not None and a.n < 2) or (b.n is not None and b.n < 2):
        raise ValueError(f"a Frechet distance needs two samples of each set; got {a.n} and {b.n}")
    check_frechet(len(a.factor), len(b.factor), len(a.mean))
    root = torch.linalg.svdvals(shortened(a.factor, 1) @ shortened(b.factor, 1).mT).sum()
    spread = a.factor.square().sum() + b.factor.square().sum() - 2 * root
    distance = float((a.mean - b.mean).square().sum() + spread)
    if not math.isfinite(distance):
        raise ValueError("the features are too large for squares in float64, or not finite: scale them")
    return max(0.0, distance)


def check_frechet(n: int, m: int, d: int) -> None:
    """Refuses a distance between n and m samples of d features that does not fit into memory; warns of one of hours.

    It needs the singular values of min(n, d) x min(m, d) numbers.
    """
    what, short, long = f"a Frechet distance of {n} and {m} samples with {d} features", *sorted((min(n, d), min(m, d)))
    check_fits((short + long) * d + 2 * short * long, what)
    if (hours := CUBE * short**2 * long) > 1:
        warnings.warn(
            f"{what} takes about {hours:.0f} hours on a core: fewer samples or features take less", stacklevel=2
        )


def expected_frechet(covariance: Float64[Tensor, "d d"] | FeatureStats, n: int, m: int) -> float:
    """The Frechet distance to expect between n and m samples of one normal law, with the eigenvalues l of covariance.

        E = (1/n + 1/m) (tr S + 1/2 (sum_ij l_i l_j / (l_i + l_j) + 1/2 sum_i l_i))

    which is (1/n + 1/m) d (d + 5) / 4 for S = 1; by expansion to the first order in 1/n, for n and m well above the
    number of features that vary: with fewer it is too large, and too small, down to a quarter, by the covariance of so
    few samples themselves. A distance of this size says nothing. Features that are not normal have another one of the
    same order, which held-out data show.

    Args:
        covariance: of the features, or the moments that it belongs to, which need less memory.
        n: samples of the one set.
        m: samples of the other.
    """
    if min(n, m) < 2:
        raise ValueError(f"wanted at least two samples of each; got {n} and {m}")
    known = isinstance(covariance, FeatureStats)
    values = covariance.spectrum if known else torch.linalg.eigvalsh(covariance).clamp_min(0)
    least, pairs = torch.finfo(values.dtype).tiny, 0.0
    for some in values.split(max(1, PAIRS // len(values))):
        pairs += float((some[:, None] * values / (some[:, None] + values).clamp_min(least)).sum())
    total = float(values.sum())
    return (1 / n + 1 / m) * (total + 0.5 * (pairs + 0.5 * total))
