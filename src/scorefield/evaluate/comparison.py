"""One set of samples against the data, by every metric that its features allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield.data.dataset import choice
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
        error: what its meaning says after +-, if anything.
        chance: what is to be expected of as many samples of one normal law, if that is known.
    """

    value: float
    error: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Metric:
    """What people should know of a number.

    Attributes:
        meaning: in a few words.
        better: "lower", "higher", or "like held-out" where the data's own value is the best.
    """

    meaning: str
    better: str


METRICS = {
    "FD": Metric("Frechet distance of the features, as of normal laws", "lower"),
    "KID": Metric("kernel distance, unbiased; ± its standard deviation over subsets of 1000, at most halves", "lower"),
    "precision": Metric("share of the set within the reference's balls to the 3rd neighbour", "like held-out"),
    "recall": Metric("share of the reference within the set's balls", "like held-out"),
    "density": Metric("mean number of the reference's balls around a sample, over 5", "like held-out"),
    "coverage": Metric("share of the reference with a sample in their ball", "like held-out"),
    "SW1": Metric("sliced Wasserstein-1 distance", "lower"),
    "SW2": Metric("sliced Wasserstein-2 distance", "lower"),
    "energy": Metric("energy distance", "lower"),
    "MMD": Metric("squared discrepancy with a Gaussian kernel, unbiased", "lower"),
    "C2ST": Metric("accuracy of a classifier of set and reference, 1/2 for one law; ± standard error", "lower"),
    "IS": Metric("Inception score of the logits; ± its standard deviation over ten parts", "like held-out"),
    "agreement": Metric("share whose likeliest class is the one asked for, or the label; ± standard error", "higher"),
}
LEAST = 6  # samples of a set, for the balls to the 5th neighbour


def compare(reference: Features, made: Features, seed: int = 0) -> dict[str, Number]:
    """Every metric, by its name in `METRICS`; the two-sample test where each set has 50 samples.

    Args:
        reference: features of the training data.
        made: features of samples, or of held-out data as the floor.
        seed: of subsets, directions and the two-sample test.

    Raises:
        ValueError: a set has less than 6 samples, or features that are not finite.
    """
    check_enough(len(reference.values), len(made.values))
    a, b = FeatureStats.of(reference), FeatureStats.of(made)
    n, m = len(reference.values), len(made.values)
    x, y = (_some(features.values, PAIRED, seed) for features in (reference, made))
    size = min(len(x), len(y))
    fidelity, diversity = precision_recall(x, y)
    near = density_coverage(x, y)
    kernel = kid(reference.values, made.values, seed=seed)
    found = {
        "FD": Number(frechet_distance(a, b), chance=expected_frechet(a, n, m)),
        "KID": Number(kernel.value, kernel.spread),
        "precision": Number(fidelity),
        "recall": Number(diversity),
        "density": Number(near.density),
        "coverage": Number(near.coverage),
        "SW1": Number(sliced_wasserstein(_some(x, size, seed), _some(y, size, seed), power=1, seed=seed)),
        "SW2": Number(sliced_wasserstein(_some(x, size, seed), _some(y, size, seed), seed=seed)),
        "energy": Number(energy_distance(x, y)),
    }
    if bandwidth := float(torch.pdist(_some(x, 1000, 0).double()).median()):  # 0 if most rows are equal
        found["MMD"] = Number(mmd(x, y, bandwidth=bandwidth))
    if size >= 50:
        told = c2st(_some(x, TESTED, seed), _some(y, TESTED, seed), seed=seed)
        found["C2ST"] = Number(told.accuracy, told.error)
    if made.logits is not None:
        mixed = torch.randperm(m, generator=torch.Generator().manual_seed(seed))  # data may come class by class
        found["IS"] = Number(*inception_score(made.logits[mixed], splits=min(10, m)))
    return found


def check_enough(*counts: int) -> None:
    """Refuses sets that are too small to be compared."""
    if min(counts) < LEAST:
        raise ValueError(f"sets to compare have at least {LEAST} rows; got {' and '.join(map(str, counts))}")


def agreement(logits: Tensor, label: Tensor) -> Number:
    """The share of samples whose likeliest class is their label."""
    share = float((logits.argmax(1) == label.cpu()).double().mean())
    return Number(share, (share * (1 - share) / len(label)) ** 0.5)


def _some(x: Tensor, most: int, seed: int) -> Tensor:
    return x[choice(len(x), most, seed)]
