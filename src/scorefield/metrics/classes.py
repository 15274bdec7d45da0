"""What a classifier says of samples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.metrics.kernels import Estimate
from scorefield.metrics.pairwise import check_finite


def inception_score(logits: Float[Tensor, "n classes"], splits: int = 10) -> Estimate:
    """exp(mean over samples of KL(p(y | x) || p(y))): between 1 and the number of classes.

    (Salimans et al. 2016, "Improved techniques for training GANs".) Samples should be in random order. It sees neither
    whether a class looks like the data nor what is missing within it.

    Args:
        logits: of the classes.
        splits: consecutive parts, as nearly equal as can be, that the score is taken of.

    Returns:
        Mean and standard deviation over the parts.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"wanted splits from 1 to {len(logits)}, the number of samples; got {splits}")
    check_finite(logits)
    log_p = logits.double().log_softmax(1)
    scores = torch.stack([_score(part) for part in log_p.tensor_split(splits)])
    return Estimate(float(scores.mean()), float(scores.std(correction=0)))


def _score(log_p: Tensor) -> Tensor:
    marginal = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - marginal)).sum(1).mean().exp()


def class_shares(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "classes"]:
    """The share of samples whose likeliest class is each."""
    check_finite(logits)
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double() / len(logits)
