"""A lower bound of the log-likelihood from the denoising error alone: no ODE, no derivatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import placed, widened
from scorefield._finite import require_finite
from scorefield._noise import Noise
from scorefield._shapes import event_size
from scorefield.likelihood.batches import batches, check_finite, keys_of
from scorefield.likelihood.decoder import Cells, cell_decoder, normal_decoder
from scorefield.likelihood.flow import ends_of
from scorefield.likelihood.mismatch import terminal_divergence
from scorefield.likelihood.ode import standard_error
from scorefield.likelihood.profile import NoiseProfile, squared_error
from scorefield.likelihood.record import LogProb
from scorefield.processes import NormalPrior, Prior
from scorefield.score import Denoiser, Score, as_denoiser, evaluating

PART = 253  # of a sample's noise
GROUPS = 4  # independent sets of stratified draws, for the standard error


@torch.no_grad()
def elbo(
    model: Score,
    x: Float[Tensor, "n *event"],
    *,
    seeds: Iterable[int] | Tensor | None = None,
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

    The log-SNRs have the density c / Z of the profile, Z = int c, one in each of equally likely strata, and from
    |ehat - eps|^2 goes c (|eps|^2 - d), of mean 0: a draw is worth Z/2 (|ehat - eps|^2 / c - |eps|^2 + d).

    Args:
        model: a score of a Gaussian process, without conditioning or with it bound by `given`.
        x: n samples in the model's space; with `cells` the centres of the levels.
        seeds: one 64-bit integer a sample, 0, 1, ... by default; a result depends on its own alone.
        draws: network calls of each sample, in 4 independent groups, whose spread gives `stderr`: a multiple of 4,
            at least 8.
        profile: where the model errs, by `noise_profile`; that of normal data of unit variance by default.
        cells: the integers behind x, for a model that was trained on the centres.
        prior: the law at T, the process's by default; the KL has a closed form for `NormalPrior`, others are sampled.
        batch_size: samples in one network call; all n by default.
        progress: show a progress bar.

    Raises:
        Diverged: a ValueError, of bounds that are not finite.
    """
    denoiser, n, d = as_denoiser(model), len(x), event_size(x)
    if draws < 2 * GROUPS or draws % GROUPS:
        raise ValueError(f"draws must be a multiple of {GROUPS}, at least {2 * GROUPS}; got {draws}")
    if cells is not None and (cells.k.shape != x.shape or not bool(((cells.k >= 0) & (cells.k < cells.levels)).all())):
        raise ValueError(
            f"cells need one integer from 0 to {cells.levels - 1} for each value of x, {tuple(x.shape)}; got "
            f"{tuple(cells.k.shape)}, {int(cells.k.min())} to {int(cells.k.max())}"
        )
    keys = keys_of(seeds, n)
    check_finite(x)
    sde, law = denoiser.sde, prior or denoiser.sde.prior
    profile = profile or NoiseProfile.of_normal(sde)
    wanted = sde.log_snr(torch.tensor([sde.t_start, sde.t_min], dtype=torch.float64))
    given = torch.tensor([profile.log_snr[0], profile.log_snr[-1]], dtype=torch.float64)
    if not torch.allclose(given, wanted, rtol=0, atol=1e-6):
        raise ValueError(f"the profile must span the process's log-SNRs {wanted.tolist()}; got {given.tolist()}")
    parts: list[tuple[Tensor, Tensor]] = []
    with evaluating(denoiser), batches(n, batch_size, draws, progress) as (every, bar):
        for rows in every:
            part, batch = denoiser.select(rows, n), x[rows.to(x.device)]
            noise, values = Noise.per_sample(keys[rows], x.device).child(PART), []
            for k in range(draws):
                values.append(_draw(part, batch, noise.at(k), k // GROUPS, draws // GROUPS, profile, law))
                bar.update()
            diffusion, sampled = (torch.stack(column, 1) for column in zip(*values, strict=True))
            parts.append((_by_group(diffusion), _by_group(sampled)))
    diffusion, sampled = (torch.cat(column)[:n] for column in zip(*parts, strict=True))
    closed = -terminal_divergence(sde, x, law) if isinstance(law, NormalPrior) else torch.zeros_like(diffusion[:, 0])
    s = ends_of(sde, x.dtype).first
    decoder = diffusion.new_full((n,), normal_decoder(d, s)) if cells is None else cell_decoder(cells, s).to(diffusion)
    probes = sampled + closed[:, None] + diffusion + decoder[:, None]
    terms = {"prior": closed + sampled.mean(1), "diffusion": diffusion.mean(1), "decoder": decoder}
    nats, calls = probes.mean(1), torch.full((n,), draws, device=x.device)
    require_finite(nats, "bounds", sde)
    return LogProb(nats, standard_error(probes), terms, probes, calls, d, discrete=cells is not None)


def _draw(
    denoiser: Denoiser,
    x: Tensor,
    noise: Noise,
    stratum: int,
    strata: int,
    profile: NoiseProfile,
    prior: Prior,
) -> tuple[Tensor, Tensor]:
    """The diffusion term, and the prior's where it has no closed form, of one noise level in a stratum."""
    eps = noise.normal(x)
    u = noise.uniform(torch.empty(len(x), dtype=torch.float64), draw=1)
    log_snr, c = profile.draw((stratum + u) / strata)
    error, squared = squared_error(denoiser, x, log_snr, eps)
    d = event_size(x)
    diffusion = -0.5 * profile.integral * (error / placed(c, error) - squared + d)
    if isinstance(prior, NormalPrior):
        return diffusion, torch.zeros_like(diffusion)
    knot = denoiser.sde.knots([denoiser.sde.T])[0]
    entropy = -normal_decoder(d, knot.sigma)
    return diffusion, widened(prior.log_prob(knot.alpha * x + knot.sigma * eps)) + entropy


def _by_group(values: Float[Tensor, "b draws"]) -> Float[Tensor, "b groups"]:
    """The mean of each group: every fourth draw, one of each stratum."""
    return values.reshape(len(values), -1, GROUPS).mean(1)
