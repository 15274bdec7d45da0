"""Denoising score matching over all noise levels: one objective, with a density and a weight on the log-SNR."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double
from scorefield._noise import Noise
from scorefield._shapes import event_sum, factor
from scorefield.objectives.adaptive import AdaptiveLogSNR
from scorefield.objectives.objective import Objective, gaussian_process
from scorefield.objectives.time_densities import LogNormalSigma, TimeDensity, UniformTime
from scorefield.objectives.weights import EDMWeight, SimpleWeight, Weight
from scorefield.score import Denoiser, Preconditioned, ScoreModule, as_denoiser


@dataclass(frozen=True)
class DenoisingScoreMatching(Objective[ScoreModule]):
    """w / 2 |ehat(x_t, t) - eps|^2 with x_t = alpha x_0 + sigma eps and the log-SNR drawn from a density p.

    sigma^2 |score - grad log p(x_t | x_0)|^2 is the same number (Vincent 2011). Its minimiser is the score of p_t for
    every density and weight; they decide where a network of finite capacity is good, and how noisy its gradient is.
    Published objectives are pairs of the two: see `weights`. The error is formed in the network's output space where
    there is one, so that nothing cancels at small noise.

    Args:
        density: where the log-SNR is drawn.
        weight: w, a function of the log-SNR and of p's value there.
    """

    density: TimeDensity = field(default_factory=UniformTime)
    weight: Weight = field(default_factory=SimpleWeight)

    def __post_init__(self) -> None:
        one = torch.ones(1)
        if isinstance(self.density, AdaptiveLogSNR) and not torch.allclose(
            2 * self.weight(one, 2 * one), self.weight(one, one)
        ):
            raise ValueError(
                "AdaptiveLogSNR needs a weight that divides by the density, so that it changes the noise of the loss "
                f"and not its minimum: take LikelihoodWeight; got {self.weight}"
            )

    @classmethod
    def edm(cls, sigma_data: float) -> DenoisingScoreMatching:
        """EDM's weight, and its noise levels relative to the data's standard deviation (0.5 in the paper)."""
        return cls(LogNormalSigma(mean=math.log(sigma_data) - 0.5), EDMWeight(sigma_data))

    def __call__(
        self, model: ScoreModule, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The loss of each sample.

        Args:
            model: what to train, of a Gaussian process.
            x0: clean samples in the model's space.
            noise: made by `Noise.per_batch`; its draw 0 gives low-discrepancy times, draw 1 the noise.
            cond: passed to the model.
        """
        sde = gaussian_process(model, "DenoisingScoreMatching")
        t, p = self.density(sde, noise.stratified(0))
        log_snr = sde.log_snr(t)
        error = noise_error(as_denoiser(model), x0, noise.normal(x0, draw=1), t, **cond)
        squares = event_sum(error**2)
        losses = 0.5 * factor(self.weight(log_snr, p), squares) * squares
        if isinstance(self.density, AdaptiveLogSNR) and torch.is_grad_enabled():
            self.density.observe(sde, log_snr, p * losses.detach().cpu())
        return losses


def noise_error(
    model: Denoiser,
    x0: Float[Tensor, "b *event"],
    eps: Float[Tensor, "b *event"],
    t: Float[Tensor, "b"],
    **cond: Tensor,
) -> Float[Tensor, "b *event"]:
    """ehat(x_t, t) - eps; for a `Preconditioned` model -(alpha / sigma) (D - x_0), which has no part of size 1 / sigma.

    There D - x_0 = out (F - target) with target = ((1 - skip alpha) x_0 - skip sigma eps) / out.
    """
    xt = model.sde.perturb(x0, t, eps)
    if not isinstance(model, Preconditioned):
        return model.noise(xt, t, **cond) - eps
    t = double(t)
    alpha, sigma = model.sde.alpha(t), model.sde.sigma(t)
    coefs = model.precond(model.sde, t)
    of_x0, of_eps = (1 - coefs.skip * alpha) / coefs.out, -coefs.skip * sigma / coefs.out
    target = factor(of_x0, x0) * x0 + factor(of_eps, x0) * eps
    return factor(-alpha * coefs.out / sigma, x0) * (model.raw(xt, coefs, **cond) - target)
