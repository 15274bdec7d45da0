"""A time density that learns from the losses it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield.objectives.time_densities import TimeDensity, log_snr_range, time_inside
from scorefield.processes import GaussianSDE


class AdaptiveLogSNR(TimeDensity):
    """p proportional to the loss, learnt in bins of the log-SNR while training  (Kingma & Gao 2023, section 4).

    For a weight w = v / p, such as `LikelihoodWeight`, the objective is int v/2 E|ehat - eps|^2 dlog_snr whatever p is;
    the estimate of it that varies least has p proportional to the root of the mean squared loss, which is the integrand
    where losses vary alike at all levels. A tenth of p is kept uniform, so that no level is forgotten. The training
    loop puts the losses of all processes together after each step, and the table is a part of the run's state.

    Args:
        bins: number of them, of equal width.
        half_life: samples after which a loss counts half.
    """

    @unrecorded()
    def __init__(self, bins: int = 50, half_life: float = 50_000.0) -> None:
        if bins < 1 or not half_life > 0:
            raise ValueError(f"wanted bins >= 1 and half_life > 0; got {bins} and {half_life}")
        self.bins, self.half_life = bins, half_life
        self.table = torch.zeros(2, bins, dtype=torch.float64)  # sums of p times the loss, and of the samples
        self.seen = torch.zeros_like(self.table)  # those of the present step

    def __repr__(self) -> str:
        return f"AdaptiveLogSNR(bins={self.bins}, half_life={self.half_life})"

    def __call__(self, sde: GaussianSDE, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The times and p, constant in each bin."""
        low, high = log_snr_range(sde)
        share = self.shares().to(u.device)
        edges = torch.cat((share.new_zeros(1), share.cumsum(0)))
        k = (torch.searchsorted(edges, u, right=True) - 1).clamp(0, self.bins - 1)
        log_snr = low + (high - low) * (k + (u - edges[k]) / share[k]) / self.bins
        return time_inside(sde, log_snr), share[k] * self.bins / (high - low)

    def shares(self) -> Float[Tensor, "bins"]:
        """The probability of each bin."""
        sums, count = self.table
        known = count > 0
        if not bool((sums > 0).any()):
            return torch.full_like(sums, 1 / self.bins)
        mean = torch.where(known, sums / count.clamp_min(1e-300), sums.sum() / count.sum())
        return 0.9 * mean / mean.sum() + 0.1 / self.bins

    def observe(self, sde: GaussianSDE, log_snr: Float[Tensor, "b"], values: Float[Tensor, "b"]) -> None:
        """Notes p times the loss of some samples."""
        low, high = log_snr_range(sde)
        k = ((log_snr - low) / (high - low) * self.bins).long().clamp(0, self.bins - 1)
        rows = torch.stack((values.double(), torch.ones_like(values, dtype=torch.float64)))
        self.seen.index_add_(1, k.to(self.seen.device), rows.to(self.seen.device))

    def learn(self, total: Callable[[Tensor], Tensor], batch: int) -> None:
        """Takes what was noted since the last call into the table.

        Args:
            total: the sum over all processes.
            batch: samples in a step.
        """
        self.table.mul_(0.5 ** (batch / self.half_life)).add_(total(self.seen))
        self.seen.zero_()


def adaptive_densities(objective: Any) -> Iterator[AdaptiveLogSNR]:
    """Those among an objective's fields, in their order."""
    if isinstance(objective, AdaptiveLogSNR):
        yield objective
    elif is_dataclass(objective):
        for field in fields(objective):
            yield from adaptive_densities(getattr(objective, field.name))
