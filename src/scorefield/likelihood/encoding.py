"""Encodings by the probability-flow ODE."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._finite import require_finite
from scorefield._inputs import Array
from scorefield._shapes import event_size
from scorefield.likelihood.batches import batches
from scorefield.likelihood.flow import ENCODING, carry, checked_steps, ends_of, transport
from scorefield.score import Score, as_denoiser, as_states, evaluating


def encode(
    model: Score,
    x: Array,
    *,
    steps: int = 80,
    tolerance: float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Float[Tensor, "n *event"]:
    """The latent at T of each sample: the probability-flow ODE from the data, by a Runge-Kutta method of order 5.

    The latents of data are nearly distributed as the prior and, for an accurate score, do not depend on the network
    that learnt it  (Song et al. 2021, section 4.3).

    Args:
        model: a score of a Gaussian process.
        x: n samples in the model's space.
        steps: nearly equal steps of the log-SNR, with 6 network calls each.
        tolerance: in (0, 1), instead of steps: error of a step relative to 1 + |state|.
        batch_size: samples in one network call; all n by default.
        progress: show a progress bar.

    Raises:
        Diverged: a ValueError, of results that are not finite.
    """
    sde, x = as_denoiser(model).sde, as_states(model, x)
    ends = ends_of(sde, x.dtype)
    latent = ends.far * _moved(model, ends.near * x, ends.first, ends.last, steps, tolerance, batch_size, progress)
    require_finite(latent, "latents", sde, model)
    return latent


def decode(
    model: Score,
    latent: Array,
    *,
    steps: int = 80,
    tolerance: float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Float[Tensor, "n *event"]:
    """The sample of each latent: the inverse of `encode` up to the error of the ODE solver; the arguments are its."""
    sde, latent = as_denoiser(model).sde, as_states(model, latent, "latent")
    ends = ends_of(sde, latent.dtype)
    x = _moved(model, latent / ends.far, ends.last, ends.first, steps, tolerance, batch_size, progress) / ends.near
    require_finite(x, "samples", sde, model)
    return x


@unrecorded()
def _moved(
    model: Score,
    u: Float[Tensor, "n *event"],
    start: float,
    end: float,
    steps: int,
    tolerance: float | None,
    batch_size: int | None,
    progress: bool,
) -> Float[Tensor, "n *event"]:
    """The states u at another sigma / alpha."""
    denoiser, n, d = as_denoiser(model), len(u), event_size(u)
    steps = checked_steps(steps, tolerance)
    parts: list[Tensor] = []
    with evaluating(denoiser), batches(n, batch_size, 1, progress) as (every, bar):
        for rows in every:
            field = functools.partial(transport, denoiser.select(rows, n), u.shape[1:])
            y = u[rows.to(u.device)].reshape(len(rows), -1)
            parts.append(carry(denoiser.sde, ENCODING, field, y, d, start, end, steps, tolerance).y)
            bar.update()
    return torch.cat(parts)[:n].reshape(u.shape)
