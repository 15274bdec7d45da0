"""Densities within the cell of an integer:  log P(k) >= E_{u ~ q}[log p(k + u) - log q(u)]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened
from scorefield._noise import Noise
from scorefield._shapes import event_sum
from scorefield.likelihood.record import LogProb, mixed


class Draw(NamedTuple):
    """A place in each cell.

    Attributes:
        u: in (0, 1), float64 where the device has it.
        log_density: log q(u), (b,).
    """

    u: Float[Tensor, "b *event"]
    log_density: Float[Tensor, "b"]


@runtime_checkable
class Dequantisation(Protocol):
    """A law of u."""

    def draw(self, like: Float[Tensor, "b *event"], width: Tensor, s: float, noise: Noise) -> Draw:
        """One draw.

        Args:
            like: of the samples' shape, float64 where the device has it.
            width: of the cells in the model's space, broadcastable against `like`.
            s: sigma / alpha at t_min.
            noise: of the samples.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """u uniform in (0, 1)  (Theis et al. 2016): for a model that was trained on data with such noise, as by `train`."""

    def draw(self, like: Float[Tensor, "b *event"], width: Tensor, s: float, noise: Noise) -> Draw:
        """One draw."""
        u = widened(noise.uniform(like.float()))
        return Draw(u, torch.zeros_like(event_sum(u)))


@dataclass(frozen=True)
class TruncatedNormal:
    """u = 1/2 + s e / width with e ~ N(0, 1) cut off at +- width / (2 s): the noise of t_min around the cell's centre.

    It asks the model for the density of what it has seen at t_min if it was trained on the centres, so that no
    dequantisation has to be learned  (Zheng et al. 2023, "Improved techniques for maximum likelihood estimation for
    diffusion ODEs"). A model that was trained with uniform noise spreads its density over the cells, and this bound
    loses about log(width / (s sqrt(2 pi e))) nats per dimension.
    """

    def draw(self, like: Float[Tensor, "b *event"], width: Tensor, s: float, noise: Noise) -> Draw:
        """One draw."""
        cut = widened(width) / (2 * s)
        share = torch.erf(cut / math.sqrt(2))
        e = math.sqrt(2) * torch.erfinv((2 * noise.uniform(like) - 1) * share)
        e = torch.maximum(torch.minimum(e, cut), -cut)
        log_density = -0.5 * e**2 - 0.5 * math.log(2 * math.pi) - share.log() + (2 * cut).log()
        return Draw(0.5 + e / (2 * cut), event_sum(log_density))


def importance_weighted(draws: Sequence[LogProb]) -> LogProb:
    """log mean_k exp(nats_k) of K dequantised copies of the same samples: at least their mean, and nearer to log P.

    That is one estimate, without an error bar (`stderr` is NaN): the spread of the K weights tells its error only where
    they are nearly equal. Where nats_k scatter by 1 nat a bar of their spread holds in 90 % of the cases, by 5 nats in
    50 %. `averaged` makes one of several such estimates. The terms are averaged with the weights; `importance` is what
    they leave.
    """
    if not draws:
        raise ValueError("an importance-weighted likelihood needs at least one draw")
    nats = torch.stack([draw.nats for draw in draws], 1)
    shares = nats.softmax(1)
    total = nats.logsumexp(1) - math.log(len(draws))
    result = mixed(draws, shares)
    left = total - torch.stack(list(result.terms.values())).sum(0)
    return replace(result, nats=total, terms={**result.terms, "importance": left}, probes=total[:, None])
