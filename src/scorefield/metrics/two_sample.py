"""The classifier two-sample test."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from scorefield.metrics.pairwise import flat_pair

FOLDS, EPOCHS = 5, 200
MANY = 2000  # rows of each set


class C2ST(NamedTuple):
    """How well a classifier tells two sets apart.

    Attributes:
        accuracy: on rows that it was not fitted on: 1/2 for two sets of one law, 1 for sets that are far apart.
        error: its standard error if the laws are equal, 1 / (2 sqrt(n)) for n rows in all.
        p_value: the probability of such an accuracy by chance, if they are equal.
    """

    accuracy: float
    error: float
    p_value: float


def c2st(x: Shaped[Tensor, "n *event"], y: Shaped[Tensor, "m *event"], *, seed: int = 0) -> C2ST:
    """Accuracy of a small neural network, by five-fold cross-validation, between equally many rows of both.

    (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests".) The rows are standardised, and the network has
    two hidden layers of ten times as many features as there are numbers, at most 100. From 2000 rows of each set on, a
    tenth of those that it is fitted on says when to stop; of fewer a tenth would say too little, and an epoch has too
    few steps: all are fitted, 200 epochs at most.

    Args:
        x: samples.
        y: samples; of the larger set a random part is taken.
        seed: of the part, the folds and the network.
    """
    from sklearn.exceptions import ConvergenceWarning  # heavy, and nothing else here needs it
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = flat_pair(x, y, 10 * FOLDS)
    size, generator = min(len(x), len(y)), torch.Generator().manual_seed(seed)
    rows = torch.cat([v[torch.randperm(len(v), generator=generator)[:size].to(v.device)] for v in (x, y)])
    truth = torch.arange(2).repeat_interleave(size)
    width = min(100, 10 * rows.shape[1])
    seed %= 2**32  # scikit-learn takes no more
    network = MLPClassifier((width, width), early_stopping=size >= MANY, max_iter=EPOCHS, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after the last epoch
        scores = cross_val_score(make_pipeline(StandardScaler(), network), rows.cpu().numpy(), truth.numpy(), cv=folds)
    accuracy, error = float(scores.mean()), 0.5 / math.sqrt(2 * size)
    return C2ST(accuracy, error, 0.5 * math.erfc((accuracy - 0.5) / error / math.sqrt(2)))
