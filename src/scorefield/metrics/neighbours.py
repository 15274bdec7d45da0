"""What nearest neighbours tell of samples: fidelity, diversity, and whether they are copies."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from scorefield.metrics.pairwise import distances, flat_pair, nearest


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1; two sets of one law have about equal ones, below 1.

    Attributes:
        precision: of the samples, those within the data's manifold.
        recall: of the data, those within the samples' manifold.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """About 1 and 1 - (n / (n + m))^k for n data and m samples of one law.

    Attributes:
        density: mean number of data balls around a sample, over k; may exceed 1.
        coverage: share of data with a sample in their ball.
    """

    density: float
    coverage: float


def precision_recall(data: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], k: int = 3) -> PrecisionRecall:
    """Precision and recall by unions of balls up to the k-th neighbour.

    (Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models".) Both depend on
    the numbers of samples: compare results of equal n and m.

    Args:
        data: features of the data.
        samples: features of the samples.
        k: neighbours within each ball's radius.
    """
    data, samples = flat_pair(data, samples, k + 1)
    real, fake = (nearest(x, x, k, itself=True).distance[:, -1] for x in (data, samples))
    within = torch.zeros(len(samples), dtype=torch.bool, device=data.device)
    covered: list[Tensor] = []
    first = 0
    for block in distances(data, samples):
        within |= (block <= real[first : first + len(block), None]).any(0)
        covered.append((block <= fake).any(1))
        first += len(block)
    return PrecisionRecall(float(within.double().mean()), float(torch.cat(covered).double().mean()))


def density_coverage(data: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], k: int = 5) -> DensityCoverage:
    """Density and coverage: the data's balls alone, so that outliers among the samples do not count as manifold.

    (Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", equations 3 and 4.)

    Args:
        data: features of the data.
        samples: features of the samples.
        k: neighbours within each ball's radius.
    """
    data, samples = flat_pair(data, samples, 1)
    radius = nearest(data, data, k, itself=True).distance[:, -1]
    hits, covered, first = 0, 0, 0
    for block in distances(data, samples):
        inside = block <= radius[first : first + len(block), None]
        hits += int(inside.sum())
        covered += int(inside.any(1).sum())
        first += len(block)
    return DensityCoverage(hits / (k * len(samples)), covered / len(data))


class Memorisation(NamedTuple):
    """Whether samples are copies of training data.

    Attributes:
        z: Mann and Whitney's statistic of the distances to the nearest training sample, of samples against held-out
            data: normal with variance 1 if both are equally near, below -5 where many samples are copies; above 5 they
            lie off the data. A few copies among many samples show in the shares.
        share: of the samples, those whose nearest training sample is at no more than a third of the distance of the
            second nearest, as a copy's is, or at distance 0.
        expected: the same share of held-out data.
    """

    z: float
    share: float
    expected: float


def memorisation(
    samples: Shaped[Tensor, "n *event"], train: Shaped[Tensor, "m *event"], held_out: Shaped[Tensor, "h *event"]
) -> Memorisation:
    """Distances to the training data, of samples and of data that the model has not seen.

    (Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying in generative models", with one
    cell; Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize", for the third.)

    Args:
        samples: of the model.
        train: what it was trained on; at least 2.
        held_out: other data of the same law.
    """
    from scipy.stats import rankdata, tiecorrect  # heavy, and nothing else here needs them

    near = [nearest(x, train, 2).distance.cpu() for x in (samples, held_out)]
    n, h = len(samples), len(held_out)
    ranks = rankdata(torch.cat(near)[:, 0].numpy())
    farther = float(ranks[:n].sum()) - n * (n + 1) / 2  # pairs in which the sample is, ties by half
    variance = float(tiecorrect(ranks)) * n * h * (n + h + 1) / 12
    z = (farther - n * h / 2) / math.sqrt(variance) if variance else 0.0  # all are equally far
    shares = [float((3 * pair[:, 0] <= pair[:, 1]).double().mean()) for pair in near]
    return Memorisation(z, *shares)
