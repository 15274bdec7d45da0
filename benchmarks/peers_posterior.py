"""Azula's posterior samplers on the problems of posterior.py, with the same prior, times and number of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from posterior_problems import Problem
from torch import Tensor, nn

from scorefield import GaussianMixture, GaussianSDE
from scorefield.operators import Linear


def azula_methods(steps: int) -> dict[str, Callable[[Problem, int, int], Tensor]]:
    """Name -> (problem, number of samples, seed) -> samples; empty without azula."""
    try:
        from azula import guidance, sample
        from azula.denoise import DiracPosterior
        from azula.linalg.covariance import IsotropicCovariance
    except ImportError:
        return {}

    class Schedule(nn.Module):
        """The process's, from T to t_end for t from 1 to 0."""

        def __init__(self, sde: GaussianSDE) -> None:
            super().__init__()
            self.sde = sde

        def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
            t = self.sde.t_end + t.double() * (self.sde.T - self.sde.t_end)
            return self.sde.alpha(t), self.sde.sigma(t)

    class Prior(nn.Module):
        def __init__(self, prior: GaussianMixture) -> None:
            super().__init__()
            self.prior = prior
            self.schedule = Schedule(prior.sde)

        def forward(self, x: Tensor, t: Tensor) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(self.prior(x, self.prior.sde.time(2 * (alpha.log() - sigma.log()))))

    def run(make: Callable[..., Any]) -> Callable[[Problem, int, int], Tensor]:
        def samples(p: Problem, n: int, seed: int) -> Tensor:
            torch.manual_seed(seed)
            model = Prior(p.prior)
            sampler = make(
                model, p.operator, p.y, p.sigma, {"steps": steps - 1, "silent": True, "dtype": torch.float64}
            )
            x = sampler(sampler.init((n, *p.prior.event_shape), dtype=torch.float64))
            denoiser = getattr(sampler, "denoiser", model)
            return denoiser(x, torch.zeros((), dtype=torch.float64)).mean.detach()

        return samples

    def guided(kind: Any, noise: Callable[[float], Any], **options: Any) -> Any:
        def make(model: Any, a: Linear, y: Tensor, sigma: float, settings: dict[str, Any]) -> Any:
            return sample.DDPMSampler(kind(model, y, a.A, noise(sigma), **options), **settings)

        return run(make)

    def dps(zeta: float) -> Any:
        return run(lambda model, a, y, sigma, settings: guidance.DPSSampler(model, y, a.A, zeta=zeta, **settings))

    def covariance(sigma: float) -> Any:
        return IsotropicCovariance(sigma**2)

    return {
        **{f"azula DPS, zeta {z}": dps(z) for z in (0.3, 1.0, 3.0, 10.0)},
        "azula PGDM": run(
            lambda model, a, y, sigma, settings: guidance.PGDMSampler(model, y, a.A, a.A_dagger, eta=1.0, **settings)
        ),
        **{f"azula MMPS, {k} iterations": guided(guidance.MMPSDenoiser, covariance, iterations=k) for k in (1, 3)},
        **{
            f"azula DiffPIR, lambda {w}": guided(guidance.DiffPIRDenoiser, lambda s: s**2, lmbda=w, iterations=4)
            for w in (1.0, 10.0)
        },
    }
