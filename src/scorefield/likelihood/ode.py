"""Exact likelihoods by the probability-flow ODE."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened
from scorefield._finite import require_finite
from scorefield._noise import Noise
from scorefield._shapes import event_size
from scorefield.likelihood.batches import batches, check_finite, keys_of
from scorefield.likelihood.divergence import Divergence, ExactTrace, Hutchinson
from scorefield.likelihood.flow import (
    DENSITY,
    SKETCHED,
    beginning,
    carry,
    check_settings,
    ends_of,
    flow,
    products,
)
from scorefield.likelihood.record import LogProb
from scorefield.processes import Prior
from scorefield.score import Denoiser, Score, as_denoiser, evaluating


@torch.no_grad()
def log_prob(
    model: Score,
    x: Float[Tensor, "n *event"],
    *,
    seeds: Iterable[int] | Tensor | None = None,
    steps: int = 10,
    tolerance: float | None = None,
    divergence: Divergence | None = None,
    prior: Prior | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> LogProb:
    """log p(x) of the model's probability-flow ODE from t_min to T, by a Runge-Kutta method of order 5.

    The density is that of x_tmin / alpha: of the data with noise sigma / alpha at t_min. The terms are `prior`, log of
    the prior's density at x_T, and `divergence`, log |det dx_T/dx| (Chen et al. 2018; Song et al. 2021, section 4.3).

    `stderr` is that of the probes; the error of the ODE solver is not in it. It falls with the fifth power of `steps`:
    compare two of them where it matters, or ask for a `tolerance`.

    Args:
        model: a score of a Gaussian process, without conditioning or with it bound by `given`.
        x: n samples in the model's space.
        seeds: one 64-bit integer a sample for the probes, 0, 1, ... by default; a result depends on its own alone.
        steps: equal steps of the variable of `scorefield.likelihood.flow`, with 6 network calls each, for data of
            about unit size: of others ask for a tolerance, or standardise them.
        tolerance: in (0, 1), instead of steps: error of a step, in nats per dimension and for the state relative to
            1 + |state|; each sample has steps of its own. The result errs by about 10 times as much, single samples
            by up to 70 times. In float32 at least 1e-5.
        divergence: `ExactTrace()` by default up to d = 64, else `Hutchinson()`.
        prior: the law at T, the process's by default.
        batch_size: samples in one network call; all n by default.
        progress: show a progress bar.

    Raises:
        Diverged: a ValueError, of likelihoods that are not finite.
    """
    denoiser, n, d = as_denoiser(model), len(x), event_size(x)
    check_settings(steps, tolerance)
    keys = keys_of(seeds, n)
    check_finite(x)
    divergence = divergence or (ExactTrace() if d <= 64 else Hutchinson())
    law = prior or denoiser.sde.prior
    parts: list[tuple[Tensor, ...]] = []
    with evaluating(denoiser), batches(n, batch_size, 1, progress) as (every, bar):
        for rows in every:
            batch = x[rows.to(x.device)]
            noise = Noise.per_sample(keys[rows], x.device)
            parts.append(_batch(denoiser.select(rows, n), batch, noise, divergence, law, steps, tolerance))
            bar.update()
    log_prior, volumes, stderr, truncation, nfe = (torch.cat(column)[:n] for column in zip(*parts, strict=True))
    probes = log_prior[:, None] + volumes
    nats, terms = probes.mean(1), {"prior": log_prior, "divergence": volumes.mean(1)}
    require_finite(nats, "likelihoods", denoiser.sde)
    return LogProb(nats, stderr, terms, probes, nfe, d, truncation=truncation)


def _batch(
    denoiser: Denoiser,
    x: Tensor,
    noise: Noise,
    divergence: Divergence,
    prior: Prior,
    steps: int,
    tolerance: float | None,
) -> tuple[Tensor, ...]:
    """The log-prior, the log-determinants (b, K) and their error, the truncation and the network calls."""
    sde, n, d, ends = denoiser.sde, len(x), event_size(x), ends_of(denoiser.sde, x.dtype)
    u = ends.near * x
    looked = 0

    def sketched(vectors: Tensor) -> Tensor:
        nonlocal looked
        looked += 1
        at = DENSITY.point(sde, torch.tensor(DENSITY.place(min(SKETCHED, ends.last)), dtype=torch.float64))
        return products(denoiser, at, u, vectors)[1]

    directions = divergence.directions(u, noise, sketched)
    field = functools.partial(flow, denoiser, directions)
    slope, truncation = beginning(denoiser, directions, ends.first, u)
    y = torch.cat((u.reshape(n, -1), u.new_zeros(n, slope.shape[1] - d)), 1)
    y, calls = carry(sde, DENSITY, field, y, d, ends.first, ends.last, steps, tolerance, slope)
    volumes = y[:, d:] + d * math.log(ends.near * ends.far)
    stderr = standard_error(volumes) if len(directions.probes) else torch.zeros_like(volumes[:, 0])
    log_prior = prior.log_prob((ends.far * y[:, :d]).reshape(x.shape))
    return widened(log_prior), widened(volumes), widened(stderr), truncation, calls + looked


def standard_error(estimates: Float[Tensor, "n K"]) -> Float[Tensor, "n"]:
    """Of the mean of independent estimates; NaN of a single one."""
    k = estimates.shape[1]
    return estimates.std(1) / math.sqrt(k) if k > 1 else torch.full_like(estimates[:, 0], math.nan)
