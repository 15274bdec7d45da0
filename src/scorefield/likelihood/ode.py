"""Exact likelihoods by the probability-flow ODE."""

from __future__ import annotations

import functools
import math
import warnings

import torch
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._device import widened
from scorefield._finite import require_finite
from scorefield._inputs import Array, Seeds
from scorefield._noise import Noise
from scorefield._shapes import event_size
from scorefield.likelihood.batches import batches, keys_of
from scorefield.likelihood.divergence import Divergence, ExactTrace, Hutchinson
from scorefield.likelihood.flow import (
    DENSITY,
    SKETCHED,
    beginning,
    carry,
    checked_steps,
    ends_of,
    flow,
    products,
)
from scorefield.likelihood.record import LogProb
from scorefield.processes import Prior
from scorefield.score import Denoiser, Score, as_denoiser, as_states, evaluating

ROUNDINGS = 8  # of a result in the model's precision
LARGE = 0.5  # nats per dimension, a larger error of the default than which is warned of
STEPS = 10


@unrecorded()
def log_prob(
    model: Score,
    x: Array,
    *,
    seeds: Seeds | None = None,
    steps: int | None = None,
    tolerance: float | None = None,
    divergence: Divergence | None = None,
    prior: Prior | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> LogProb:
    """log p(x) of the model's probability-flow ODE from t_min to T, by a Runge-Kutta method of order 5.

    The density is that of x_tmin / alpha: of the data with noise sigma / alpha at t_min. The terms are `prior`, log of
    the prior's density at x_T, and `divergence`, log |det dx_T/dx| (Chen et al. 2018; Song et al. 2021, section 4.3).

    `stderr` is that of the probes, 0 of an exact trace. `solver_error` is an estimate of the ODE solver's error from
    the slopes that the steps have seen, and of float32's rounding: on exact scores at least the error in 19 of 20
    cases, and 13 times as large in the median (docs/measurements/likelihood.md). It falls with the fifth power of
    `steps`, or with a `tolerance`; where neither is given a median above 0.5 nats per dimension is warned of.

    Args:
        model: a score of a Gaussian process, without conditioning or with it bound by `given`.
        x: n samples in the model's space, (n, *event).
        seeds: one 64-bit integer a sample for the probes, 0, 1, ... by default; a result depends on its own alone.
        steps: equal steps of the variable of `scorefield.likelihood.flow`, with 6 network calls each, 10 by default,
            for data of about unit size: of others ask for a tolerance, or standardise them. A call more at T, where the
            last step may err by 0.01 nats per dimension.
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
    denoiser, x = as_denoiser(model), as_states(model, x)
    n, d, count = len(x), event_size(x), checked_steps(STEPS if steps is None else steps, tolerance)
    keys = keys_of(seeds, n)
    divergence = divergence or (ExactTrace() if d <= 64 else Hutchinson())
    law = prior or denoiser.sde.prior
    parts: list[tuple[Tensor, ...]] = []
    with evaluating(denoiser), batches(n, batch_size, 1, progress) as (every, bar):
        for rows in every:
            batch = x[rows.to(x.device)]
            noise = Noise.per_sample(keys[rows], x.device)
            parts.append(_batch(denoiser.select(rows, n), batch, noise, divergence, law, count, tolerance))
            bar.update()
    log_prior, volume, probes, error, truncation, nfe = (torch.cat(column)[:n] for column in zip(*parts, strict=True))
    require_finite(log_prior + volume, "likelihoods", denoiser.sde, model)
    if steps is None and tolerance is None and float(error.median()) > LARGE * d:
        warnings.warn(
            f"the ODE solver's {STEPS} steps may err by more than {LARGE} nats per dimension, see `solver_error`: give "
            "more steps or a tolerance, or standardise the data",
            stacklevel=3,
        )
    terms = {"prior": log_prior, "divergence": volume}
    return LogProb(log_prior + volume, terms, probes, nfe, d, truncation=truncation, solver_error=error)


def _batch(
    denoiser: Denoiser,
    x: Tensor,
    noise: Noise,
    divergence: Divergence,
    prior: Prior,
    steps: int,
    tolerance: float | None,
) -> tuple[Tensor, ...]:
    """The log-prior, the log-determinant, the probes (b, K), the solver's error, the truncation and network calls."""
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
    y, error, calls = carry(sde, DENSITY, field, y, d, ends.first, ends.last, steps, tolerance, slope)
    volumes = widened(y[:, d:] + d * math.log(ends.near * ends.far))
    log_prior = widened(prior.log_prob((ends.far * y[:, :d]).reshape(x.shape)))
    volume = volumes.mean(1)
    # what is added up, and the first slope, rate (w u - D), a tenth of whose rounding enters the state by a step
    rounded = ROUNDINGS * (volume.abs() + log_prior.abs()) + 0.2 * math.sqrt(d) * DENSITY.low / ends.first
    error = widened(error) + torch.finfo(y.dtype).eps * rounded
    probes, k = log_prior[:, None] + volumes, directions.estimates
    probes = probes if k == probes.shape[1] else probes.mean(1, keepdim=True)[:, :k]
    return log_prior, volume, probes, error, truncation, calls + looked
