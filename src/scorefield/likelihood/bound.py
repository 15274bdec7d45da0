"""A lower bound of the log-likelihood from the denoising error alone: no ODE, no derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._device import placed, widened
from scorefield._finite import require_finite
from scorefield._inputs import Array, Seeds, whole
from scorefield._noise import Noise
from scorefield._shapes import event_size
from scorefield.likelihood.batches import batches, keys_of
from scorefield.likelihood.decoder import Cells, cell_decoder, normal_decoder
from scorefield.likelihood.flow import ends_of
from scorefield.likelihood.mismatch import terminal_divergence
from scorefield.likelihood.profile import NoiseProfile, squared_error
from scorefield.likelihood.record import LogProb
from scorefield.processes import NormalPrior, Prior
from scorefield.score import Denoiser, Score, as_denoiser, as_states, evaluating

PART = 253  # of a sample's noise
GROUPS = 4  # independent estimates of stratified draws, for the standard error


@unrecorded()
def elbo(
    model: Score,
    x: Array | Sequence[Array],
    *,
    seeds: Seeds | None = None,
    draws: int = 48,
    profile: NoiseProfile | None = None,
    cells: Cells | None = None,
    prior: Prior | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> LogProb:
    """An unbiased estimate of a lower bound of log p(x) under the reverse SDE.

    nats = E log p(x | z)  -  KL(q(x_T | x) || prior)  -  1/2 int E|ehat - eps|^2 dlambda        z = x_tmin / alpha

    the terms `decoder`, `prior` and `diffusion` (Kingma et al. 2021, "Variational diffusion models"; Song et al. 2021,
    "Maximum likelihood training"). The integral runs over the log-SNR lambda from T to t_min. For real numbers the
    decoder is N(z, s^2) with s = sigma / alpha at t_min; nats is then E[log p(z) | x] with the exact score and prior,
    an equality. For integers the decoder is proportional to the same density over the levels, and nats bounds log P(k).

    This bounds the reverse-SDE model; `log_prob` is the likelihood of the ODE model. With a learned score these are two
    models, and neither number bounds the other.

    Of the integrand |ehat - eps|^2 what the profile foretells, c |eps|^2, is integrated in closed form, and the rest by
    draws of the log-SNR from the profile's density p, one in each of equally likely strata:

        int E|ehat - eps|^2 dlambda  =  d int c dlambda  +  E[(|ehat - eps|^2 - c |eps|^2) / p]

    so that a draw where neither model nor profile have an error counts 0.

    Args:
        model: a score of a Gaussian process, without conditioning or with it bound by `given`.
        x: n samples in the model's space, with `cells` the centres of the levels; of samples with noise of their own,
            as dequantised ones, 4 independent copies, one for each estimate.
        seeds: one 64-bit integer a sample, 0, 1, ... by default; a result depends on its own alone.
        draws: network calls of each sample, for 4 independent estimates, of which `stderr` is: a multiple of 4, at
            least 8.
        profile: where the model errs, by `noise_profile`; that of normal data of unit variance by default.
        cells: the integers behind x, for a model that was trained on the centres.
        prior: the law at T, the process's by default; the KL has a closed form for `NormalPrior`, others are sampled.
        batch_size: samples in one network call; all n by default.
        progress: show a progress bar.

    Raises:
        Diverged: a ValueError, of bounds that are not finite.
    """
    given = [x] * GROUPS if isinstance(x, Tensor | np.ndarray) else x
    copies = [as_states(model, copy) for copy in given]
    if len(copies) != GROUPS:
        raise ValueError(f"wanted samples, or {GROUPS} copies of them; got {len(copies)} copies")
    denoiser, n, d = as_denoiser(model), len(copies[0]), event_size(copies[0])
    draws = whole(draws, "draws", 0)
    if draws < 2 * GROUPS or draws % GROUPS:
        raise ValueError(f"draws must be a multiple of {GROUPS}, at least {2 * GROUPS}; got {draws}")
    shape = copies[0].shape
    if cells is not None and (cells.k.shape != shape or not bool(((cells.k >= 0) & (cells.k < cells.levels)).all())):
        raise ValueError(
            f"cells need one integer from 0 to {cells.levels - 1} for each value of x, {tuple(shape)}; got "
            f"{tuple(cells.k.shape)}, {int(cells.k.min())} to {int(cells.k.max())}"
        )
    keys = keys_of(seeds, n)
    sde, law = denoiser.sde, prior or denoiser.sde.prior
    profile = profile or NoiseProfile.of_normal(sde)
    wanted = sde.log_snr(torch.tensor([sde.t_start, sde.t_min], dtype=torch.float64))
    ends = torch.tensor([profile.log_snr[0], profile.log_snr[-1]], dtype=torch.float64)
    if not torch.allclose(ends, wanted, rtol=0, atol=1e-6):
        raise ValueError(f"the profile must span the process's log-SNRs {wanted.tolist()}; got {ends.tolist()}")
    density = profile.density
    parts: list[tuple[Tensor, Tensor]] = []
    with evaluating(denoiser), batches(n, batch_size, draws, progress) as (every, bar):
        for rows in every:
            part, batch = denoiser.select(rows, n), [copy[rows.to(copy.device)] for copy in copies]
            noise, values = Noise.per_sample(keys[rows], batch[0].device).child(PART), []
            for k in range(draws):
                copy = batch[k % GROUPS]
                u = noise.at(k).uniform(torch.empty(len(copy), dtype=torch.float64), draw=1)
                log_snr, p = density.draw((k // GROUPS + u) / (draws // GROUPS))
                values.append(_draw(part, copy, noise.at(k).normal(copy), log_snr, profile.at(log_snr), p, law))
                bar.update()
            diffusion, sampled = (torch.stack(column, 1) for column in zip(*values, strict=True))
            parts.append((_by_group(diffusion), _by_group(sampled)))
    diffusion, sampled = (torch.cat(column)[:n] for column in zip(*parts, strict=True))
    diffusion -= 0.5 * d * profile.integral
    prior_terms = sampled
    if isinstance(law, NormalPrior):
        prior_terms = torch.stack([-terminal_divergence(sde, copy, law) for copy in copies], 1)
    s = ends_of(sde, copies[0].dtype).first
    decoder = diffusion.new_full((n,), normal_decoder(d, s)) if cells is None else cell_decoder(cells, s).to(diffusion)
    probes = prior_terms + diffusion + decoder[:, None]
    terms = {"prior": prior_terms.mean(1), "diffusion": diffusion.mean(1), "decoder": decoder}
    nats, calls = probes.mean(1), torch.full((n,), draws, device=diffusion.device)
    require_finite(nats, "bounds", sde, model)
    return LogProb(nats, terms, probes, calls, d, discrete=cells is not None)


def _draw(
    denoiser: Denoiser,
    x: Float[Tensor, "b *event"],
    eps: Float[Tensor, "b *event"],
    log_snr: Float[Tensor, "b"],
    c: Float[Tensor, "b"],
    p: Float[Tensor, "b"],
    prior: Prior,
) -> tuple[Tensor, Tensor]:
    """What a draw is worth of the diffusion term without c, and of the prior's where it has no closed form."""
    error, squared = squared_error(denoiser, x, log_snr, eps)
    diffusion = -0.5 * (error - placed(c, error) * squared) / placed(p, error)
    if isinstance(prior, NormalPrior):
        return diffusion, torch.zeros_like(diffusion)
    knot, d = denoiser.sde.knots([denoiser.sde.T])[0], event_size(x)
    log_kernel = -0.5 * squared - d * math.log(knot.sigma * math.sqrt(2 * math.pi))
    return diffusion, widened(prior.log_prob(knot.alpha * x + knot.sigma * eps)) - log_kernel


def _by_group(values: Float[Tensor, "b draws"]) -> Float[Tensor, "b groups"]:
    """The mean of each group: every fourth draw, one of each stratum."""
    return values.reshape(len(values), -1, GROUPS).mean(1)
