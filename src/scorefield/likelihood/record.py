"""What a likelihood is: a number of nats, its standard error and what it is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LogProb:
    """Log-likelihoods of n samples of d scalars.

    Attributes:
        nats: log p, (n,).
        stderr: standard error of `nats` over the probes of a trace, the draws of a bound or the copies of a dequantised
            sample, (n,): 0 where nothing is random, NaN where there is a single one. A single copy of a dequantised
            sample has that of the rest, given the copy.
        terms: what `nats` is the sum of, each (n,).
        probes: the estimates that `stderr` is of, (n, K).
        nfe: network calls of each sample, not counting derivatives, (n,).
        dims: d.
        discrete: `nats` is the log-probability of integers, or a bound of it, instead of a density.
        truncation: first-order estimate of log p_0(x) - log p_tmin(x), (n,); None for a bound. It is reported and not
            part of `nats`, since the model defines the density at t_min: there is no score nearer to the data.
    """

    nats: Tensor
    stderr: Tensor
    terms: dict[str, Tensor]
    probes: Tensor
    nfe: Tensor
    dims: int
    discrete: bool = False
    truncation: Tensor | None = None

    @property
    def bits_per_dim(self) -> Tensor:
        """-log2 P / d, (n,).

        Raises:
            ValueError: the data are continuous.
        """
        if not self.discrete:
            raise ValueError(
                "bits/dim have no meaning for continuous data, whose density depends on their units; use nats"
            )
        return self.nats / (-self.dims * math.log(2))
