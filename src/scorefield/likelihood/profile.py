"""Where a model errs: the density from which a likelihood bound draws its noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._device import double, widened
from scorefield._inputs import Array, Seeds, whole
from scorefield._noise import Noise
from scorefield._shapes import event_size, event_sum
from scorefield.likelihood.batches import batches, keys_of
from scorefield.processes import GaussianSDE
from scorefield.score import Denoiser, Score, as_denoiser, as_states, evaluating

PART = 254  # of a sample's noise
UNIFORM = 0.1  # share of a bound's draws
TINY = 1e-300  # of a model without an error


@dataclass(frozen=True)
class NoiseProfile:
    """What a model's error E|ehat - eps|^2 is like over the log-SNR lambda: c d, with a spread; linear between values.

    A bound is unbiased with any profile; the nearer to the truth, the smaller its standard error.

    Args:
        log_snr: increasing, from the process's at t_start to that at t_min.
        error: c at these, > 0.
        spread: of |ehat - eps|^2 about c |eps|^2, in any unit, > 0; by default as c.
    """

    log_snr: tuple[float, ...]
    error: tuple[float, ...]
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        positive = all(0 < c < math.inf for c in (*self.error, *self.spread))
        rising = all(a < b for a, b in pairwise(self.log_snr))
        sizes = {len(self.error), len(self.spread or self.error), len(self.log_snr)}
        if len(sizes) != 1 or len(self.error) < 2 or not rising or not positive:
            raise ValueError(
                f"a noise profile needs at least 2 increasing log-SNRs and as many errors > 0; got {self.log_snr} and "
                f"{self.error}" + (f" with the spread {self.spread}" if self.spread else "")
            )

    @classmethod
    def of_normal(cls, sde: GaussianSDE, data_std: float = 1.0) -> NoiseProfile:
        """That of the exact score of isotropic normal data: c = 1 / (1 + sigma^2 / (alpha data_std)^2).

        Three quarters of its spread go by c and one by sqrt(c (1 - c)), which serves data of other sizes as well.
        """
        if not 0 < data_std < math.inf:
            raise ValueError(f"data_std must be positive; got {data_std}")
        log_snr = _nodes(sde, 129)
        logit = log_snr + 2 * math.log(data_std)
        c, other = logit.sigmoid(), 1 / torch.cosh(logit / 2)
        spread = 3 * c / torch.trapezoid(c, log_snr) + other / torch.trapezoid(other, log_snr)
        return cls(*(tuple(values.tolist()) for values in (log_snr, c, spread)))

    @property
    def integral(self) -> float:
        """The integral of c."""
        return float(np.trapezoid(self.error, self.log_snr))

    @property
    def density(self) -> NoiseProfile:
        """From which a bound draws its log-SNRs: by the spread for the most part, uniform for the rest.

        The uniform part bounds the weight of a draw, 1 / density, by 1 / UNIFORM of what it is for uniform draws,
        whatever the spread: no sample can have rare large values because others have not erred there.
        """
        spread = np.array(self.spread or self.error)
        spread /= np.trapezoid(spread, self.log_snr)
        mixed = (1 - UNIFORM) * spread + UNIFORM / (self.log_snr[-1] - self.log_snr[0])
        return NoiseProfile(self.log_snr, tuple(mixed.tolist()))

    def at(self, log_snr: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """c at these log-SNRs, which lie between the ends."""
        x, c = (torch.tensor(v, dtype=torch.float64, device=log_snr.device) for v in (self.log_snr, self.error))
        i = torch.searchsorted(x, log_snr, right=True).clamp(1, len(x) - 1) - 1
        return torch.lerp(c[i], c[i + 1], (log_snr - x[i]) / (x[i + 1] - x[i]))

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


@unrecorded()
def noise_profile(
    model: Score,
    x: Array,
    *,
    seeds: Seeds | None = None,
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
    denoiser, x, nodes = as_denoiser(model), as_states(model, x), whole(nodes, "nodes", 2)
    n, keys = len(x), keys_of(seeds, len(x))
    log_snr = _nodes(denoiser.sde, nodes)
    moments = torch.zeros(5, nodes, dtype=torch.float64)
    with evaluating(denoiser), batches(n, batch_size, nodes, progress) as (every, bar):
        for rows in every:
            part, batch = denoiser.select(rows, n), x[rows.to(x.device)]
            noise = Noise.per_sample(keys[rows], x.device).child(PART)
            fresh = min(len(rows), n - int(rows[0]))  # without the rows that fill up the last batch
            for k in range(nodes):
                e, q = (v[:fresh] for v in squared_error(part, batch, log_snr[k], noise.at(k).normal(batch)))
                moments[:, k] += torch.stack((e, q, e * e, e * q, q * q)).sum(1).cpu()
                bar.update()
    error = moments[0] / (n * event_size(x))
    if not bool(torch.isfinite(error).all()):
        raise ValueError("the model's error is not finite: it has diverged, or the data are far from what it knows")
    # the sum of (e - c q)^2
    spread = (moments[2] - 2 * error * moments[3] + error**2 * moments[4]).clamp_min(0).sqrt()
    return NoiseProfile(
        *(tuple(values.tolist()) for values in (log_snr, error.clamp_min(TINY), spread.clamp_min(TINY)))
    )


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
