"""Where a model errs: the density from which a likelihood bound draws its noise levels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double, widened
from scorefield._noise import Noise
from scorefield._shapes import event_size, event_sum
from scorefield.likelihood.batches import batches, check_finite, keys_of
from scorefield.processes import GaussianSDE
from scorefield.score import Denoiser, Score, as_denoiser, evaluating

PART = 254  # of a sample's noise


@dataclass(frozen=True)
class NoiseProfile:
    """c(lambda), roughly E|ehat - eps|^2 / d over the log-SNR: linear between its values.

    A bound is unbiased with any profile; the nearer to the truth, the smaller its standard error.

    Args:
        log_snr: increasing, from the process's at t_start to that at t_min.
        error: c at these, > 0.
    """

    log_snr: tuple[float, ...]
    error: tuple[float, ...]

    def __post_init__(self) -> None:
        positive = all(0 < c < math.inf for c in self.error)
        rising = all(a < b for a, b in pairwise(self.log_snr))
        if len(self.log_snr) != len(self.error) or len(self.error) < 2 or not rising or not positive:
            raise ValueError(
                f"a noise profile needs at least 2 increasing log-SNRs and as many errors > 0; got {self.log_snr} and "
                f"{self.error}"
            )

    @classmethod
    def of_normal(cls, sde: GaussianSDE, data_std: float = 1.0) -> NoiseProfile:
        """That of the exact score of isotropic normal data: 1 / (1 + sigma^2 / (alpha data_std)^2)."""
        if not 0 < data_std < math.inf:
            raise ValueError(f"data_std must be positive; got {data_std}")
        log_snr = _nodes(sde, 129)
        return cls(
            tuple(log_snr.tolist()), tuple((log_snr + 2 * math.log(data_std)).sigmoid().clamp_min(1e-3).tolist())
        )

    @property
    def integral(self) -> float:
        """The integral of c."""
        return float(np.trapezoid(self.error, self.log_snr))

    def draw(self, u: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """The log-SNRs of density c / integral at which its distribution function is u, and c there."""
        x, c = (torch.tensor(v, dtype=torch.float64) for v in (self.log_snr, self.error))
        width = x.diff()
        areas = 0.5 * (c[1:] + c[:-1]) * width
        before = torch.cat((areas.new_zeros(1), areas.cumsum(0)))
        area = double(u) * before[-1]
        i = torch.searchsorted(before, area, right=True).clamp(1, len(width)) - 1
        rest, slope = area - before[i], (c.diff() / width)[i]
        # the root of c_i h + slope h^2 / 2 = rest, without cancellation
        height = (c[i] ** 2 + 2 * slope * rest).clamp_min(0).sqrt()
        return x[i] + 2 * rest / (c[i] + height), height


@torch.no_grad()
def noise_profile(
    model: Score,
    x: Float[Tensor, "n *event"],
    *,
    seeds: Iterable[int] | Tensor | None = None,
    nodes: int = 33,
    batch_size: int | None = None,
    progress: bool = False,
) -> NoiseProfile:
    """Measures the profile of a model on data: one network call of each sample for each node.

    Args:
        model: a score of a Gaussian process, without conditioning or with it bound by `given`.
        x: n samples in the model's space; tens of them do.
        seeds: one 64-bit integer a sample, 0, 1, ... by default; the noise is independent of that of `elbo`.
        nodes: log-SNRs, at equal distances.
        batch_size: samples in one network call; all n by default.
        progress: show a progress bar.
    """
    denoiser, n = as_denoiser(model), len(x)
    if nodes < 2:
        raise ValueError(f"nodes must be at least 2; got {nodes}")
    keys = keys_of(seeds, n)
    check_finite(x)
    log_snr = _nodes(denoiser.sde, nodes)
    sums = torch.zeros(nodes, dtype=torch.float64)
    with evaluating(denoiser), batches(n, batch_size, nodes, progress) as (every, bar):
        for rows in every:
            part, batch = denoiser.select(rows, n), x[rows.to(x.device)]
            noise = Noise.per_sample(keys[rows], x.device).child(PART)
            fresh = min(len(rows), n - int(rows[0]))  # without the rows that fill up the last batch
            for k in range(nodes):
                values, _ = squared_error(part, batch, log_snr[k], noise.at(k).normal(batch))
                sums[k] += float(values[:fresh].sum())
                bar.update()
    error = sums / (n * event_size(x))
    if not bool(torch.isfinite(error).all()):
        raise ValueError("the model's error is not finite: it has diverged, or the data are far from what it knows")
    return NoiseProfile(tuple(log_snr.tolist()), tuple(error.clamp_min(1e-3 * float(error.max())).tolist()))


def squared_error(
    denoiser: Denoiser, x: Float[Tensor, "b *event"], log_snr: Tensor, eps: Float[Tensor, "b *event"]
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """|ehat - eps|^2 at a log-SNR, () or (b,), and |eps|^2, in the widest numbers of the device."""
    sde = denoiser.sde
    time = sde.time(double(log_snr)).clamp(sde.t_min, sde.t_start)
    ehat = denoiser.noise(sde.perturb(x, time, eps), time)
    return event_sum(widened(ehat - eps) ** 2), event_sum(widened(eps) ** 2)


def _nodes(sde: GaussianSDE, count: int) -> Tensor:
    first, last = sde.log_snr(torch.tensor([sde.t_start, sde.t_min], dtype=torch.float64)).tolist()
    return torch.linspace(first, last, count, dtype=torch.float64)
