"""Whether posterior samples spread as much as the truth: coverage tests, without knowing the posterior."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.metrics.pairwise import check_finite


def tarp_levels(
    samples: Float[Tensor, "n k *event"], truth: Float[Tensor, "n *event"], *, seed: int = 0
) -> Float[Tensor, "n"]:
    """Tests of accuracy with random points: uniform in [0, 1] if the samples are from the posteriors.

    For the i-th truth, which has been drawn from the prior and measured, the share of its k posterior samples that lie
    nearer than it to a reference point; the reference is another truth, so that it does not know this measurement
    (Lemos et al. 2023, "Sampling-based accuracy testing of posterior estimators", algorithm 2). The share of levels
    below alpha is the coverage of credible regions of alpha. Too narrow posteriors have too many levels near 0 and near
    1: coverage above alpha at small alpha, below it at large ones; too wide ones too few.

    Ties and the finite k are broken by a uniform number, so that the law is uniform for any k.

    Args:
        samples: k of each of n posteriors.
        truth: the n truths.
        seed: of the references.
    """
    n, k = samples.shape[:2]
    if n < 2 or k < 1 or truth.shape != (n, *samples.shape[2:]):
        raise ValueError(
            f"wanted k samples for each of n >= 2 truths, (n, k, *event) and (n, *event); got {tuple(samples.shape)} "
            f"and {tuple(truth.shape)}"
        )
    check_finite(samples, truth)
    generator = torch.Generator().manual_seed(seed)
    others = (torch.arange(n) + torch.randint(1, n, (n,), generator=generator)) % n
    samples, truth = samples.double(), truth.double()
    reference = truth[others.to(truth.device)].reshape(n, 1, -1)
    own = (truth.reshape(n, 1, -1) - reference).norm(dim=2)
    each = (samples.reshape(n, k, -1) - reference).norm(dim=2)
    return _level(own, each, generator)


def rank_levels(samples: Float[Tensor, "n k"], truth: Float[Tensor, "n"], *, seed: int = 0) -> Float[Tensor, "n"]:
    """Simulation-based calibration: the rank of each truth among its posterior samples, uniform in [0, 1].

    (Talts et al. 2018.) It sees one number of a sample, such as a pixel or a mean, which may depend on the measurement.

    Args:
        samples: the number in k samples of each of n posteriors.
        truth: the number in the truths.
        seed: of what breaks ties.
    """
    if truth.shape != samples.shape[:1] or not samples.numel():
        raise ValueError(f"wanted (n, k) and (n,); got {tuple(samples.shape)} and {tuple(truth.shape)}")
    check_finite(samples, truth)
    return _level(truth[:, None], samples, torch.Generator().manual_seed(seed))


def coverage(levels: Float[Tensor, "n"], alphas: Float[Tensor, "a"]) -> Float[Tensor, "a"]:
    """The share of levels below each alpha; alpha itself if all is well, within sqrt(alpha (1 - alpha) / n)."""
    return (levels[:, None] < alphas.to(levels)).double().mean(0)


def uniformity(levels: Float[Tensor, "n"]) -> float:
    """The probability of levels as far from uniform as these by chance: Kolmogorov and Smirnov's p-value."""
    from scipy.stats import kstest  # heavy, and nothing else here needs it

    return float(kstest(levels.cpu().double().numpy(), "uniform").pvalue)


def _level(own: Tensor, each: Tensor, generator: torch.Generator) -> Tensor:
    below, ties = (each < own).sum(1), (each == own).sum(1)
    u = torch.rand(len(own), generator=generator, dtype=torch.float64).to(own.device)
    return (below + u * (ties + 1)) / (each.shape[1] + 1)
