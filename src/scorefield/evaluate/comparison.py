"""One set of samples against the data, by every metric that its features allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield.metrics import (
    Features,
    FeatureStats,
    c2st,
    density_coverage,
    energy_distance,
    expected_frechet,
    frechet_distance,
    inception_score,
    kid,
    mmd,
    precision_recall,
    sliced_wasserstein,
)

PAIRED = 10_000  # samples of a set, at most, in metrics of all pairs
TESTED = 2000  # in the two-sample test


class Number(NamedTuple):
    """A measured number.

    Attributes:
        value: it.
        error: its standard error or spread, if it has one.
        chance: what it is to be expected of as many samples of one normal law, if that is known.
    """

    value: float
    error: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Metric:
    """What people should know of a number.

    Attributes:
        meaning: in a few words.
        better: "lower", "higher", or "1/2" where equal laws have that.
    """

    meaning: str
    better: str


METRICS = {
    "FD": Metric("Frechet distance of the features, as of normal laws", "lower"),
    "KID": Metric("kernel distance, unbiased; +- its spread over subsets", "lower"),
    "precision": Metric("share of the set within the training data's balls to the 3rd neighbour", "higher"),
    "recall": Metric("share of the training data within the set's balls", "higher"),
    "density": Metric("mean number of the training data's balls around a sample, over 5", "higher"),
    "coverage": Metric("share of the training data with a sample in their ball", "higher"),
    "SW1": Metric("sliced Wasserstein-1 distance", "lower"),
    "SW2": Metric("sliced Wasserstein-2 distance", "lower"),
    "energy": Metric("energy distance", "lower"),
    "MMD": Metric("squared discrepancy with a Gaussian kernel, unbiased", "lower"),
    "C2ST": Metric("accuracy of a classifier between the set and training data", "1/2"),
    "IS": Metric("Inception score of the logits", "higher"),
}


def compare(reference: Features, made: Features, seed: int = 0) -> dict[str, Number]:
    """Every metric, by its name in `METRICS`.

    Args:
        reference: features of the training data.
        made: features of samples, or of held-out data as the floor.
        seed: of subsets, directions and the two-sample test.
    """
    a, b = FeatureStats.of(reference), FeatureStats.of(made)
    n, m = len(reference.values), len(made.values)
    x, y = (_some(features.values, PAIRED) for features in (reference, made))
    size = min(len(x), len(y))
    fidelity, diversity = precision_recall(x, y)
    near = density_coverage(x, y)
    kernel = kid(reference.values, made.values, seed=seed)
    told = c2st(_some(x, TESTED), _some(y, TESTED), seed=seed)
    found = {
        "FD": Number(frechet_distance(a, b), chance=expected_frechet(a.covariance, n, m)),
        "KID": Number(kernel.value, kernel.spread),
        "precision": Number(fidelity),
        "recall": Number(diversity),
        "density": Number(near.density),
        "coverage": Number(near.coverage),
        "SW1": Number(sliced_wasserstein(_some(x, size), _some(y, size), power=1, seed=seed)),
        "SW2": Number(sliced_wasserstein(_some(x, size), _some(y, size), seed=seed)),
        "energy": Number(energy_distance(x, y)),
        "MMD": Number(mmd(x, y, bandwidth=_bandwidth(x))),
        "C2ST": Number(told.accuracy, told.error),
    }
    if made.logits is not None:
        found["IS"] = Number(*inception_score(made.logits, splits=min(10, len(made.logits))))
    return found


def _some(x: Tensor, most: int) -> Tensor:
    """Rows at equal distances."""
    return x[torch.arange(min(len(x), most)) * len(x) // min(len(x), most)]


def _bandwidth(x: Tensor) -> float | None:
    """The median distance within the training data, for all sets; None leaves the choice to `mmd`."""
    median = float(torch.pdist(_some(x, 1000).double()).median())
    return median or None
