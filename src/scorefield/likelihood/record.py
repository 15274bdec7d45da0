"""What a likelihood is: a number of nats, its standard error and what it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LogProb:
    """Log-likelihoods of n samples of d scalars.

    Attributes:
        nats: log p, (n,).
        terms: what `nats` is the sum of, each (n,).
        probes: independent estimates of each sample, whose mean is `nats`, (n, K): one for each probe of a trace or
            group of draws of a bound; K = 0 where nothing is random.
        nfe: network calls of each sample, not counting derivatives, (n,).
        dims: d.
        discrete: `nats` is the log-probability of integers, or a bound of it, instead of a density.
        truncation: first-order estimate of log p_0(x) - log p_tmin(x), (n,); None for a bound. It is reported and not
            part of `nats`, since the model defines the density at t_min: there is no score nearer to the data.
        solver_error: how far the ODE solver's steps may have put `nats` off, in nats, (n,): see `log_prob`; None for a
            bound, which has no steps.
    """

    nats: Tensor
    terms: dict[str, Tensor]
    probes: Tensor
    nfe: Tensor
    dims: int
    discrete: bool = False
    truncation: Tensor | None = None
    solver_error: Tensor | None = None

    @property
    def stderr(self) -> Tensor:
        """Standard error of `nats` over all that is random, std(probes) / sqrt(K), (n,).

        With Student's t of K - 1 degrees of freedom it makes intervals. 0 where nothing is random. NaN of a single
        estimate (K = 1), whose error cannot be known: one dequantised copy of integers, an importance-weighted bound,
        one probe, or probes in fewer than 16 dimensions. `averaged` makes an error bar of several with different seeds.
        """
        k = self.probes.shape[1]
        if k == 0:
            return torch.zeros_like(self.nats)
        return self.probes.std(1) / math.sqrt(k) if k > 1 else torch.full_like(self.nats, math.nan)

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

    def plus(self, terms: dict[str, Tensor], discrete: bool) -> LogProb:
        """With further terms of the sum, which are the same for all probes.

        Args:
            terms: each (n,).
            discrete: whether the whole is the log-probability of integers, or a bound of it.
        """
        shift = torch.stack([*terms.values()]).sum(0)
        return replace(
            self,
            nats=self.nats + shift,
            terms={**self.terms, **terms},
            probes=self.probes + shift[:, None],
            discrete=discrete,
        )


def averaged(repeats: Sequence[LogProb]) -> LogProb:
    """The mean of likelihoods of the same samples with different seeds, all computed in the same way.

    Its `probes` are those of all, so that it has an error bar also where a single likelihood has none.
    """
    shapes = [tuple(repeat.probes.shape) for repeat in repeats]
    if len(set(shapes)) != 1:
        raise ValueError(f"wanted likelihoods of the same samples with as many probes each; got probes of {shapes}")
    equal = torch.full_like(repeats[0].nats[:, None], 1 / len(repeats)).expand(-1, len(repeats))
    return replace(mixed(repeats, equal), probes=torch.cat([repeat.probes for repeat in repeats], 1))


def mixed(every: Sequence[LogProb], shares: Float[Tensor, "n K"]) -> LogProb:
    """The means of K likelihoods with a weight for each sample, and the network calls of all."""

    def mean(name: str) -> Tensor | None:
        values = [getattr(one, name) for one in every]
        return None if values[0] is None else (shares * torch.stack(values, 1)).sum(1)

    return replace(
        every[0],
        nats=mean("nats"),
        terms={name: (shares * torch.stack([one.terms[name] for one in every], 1)).sum(1) for name in every[0].terms},
        nfe=torch.stack([one.nfe for one in every]).sum(0),
        truncation=mean("truncation"),
        solver_error=mean("solver_error"),
    )
