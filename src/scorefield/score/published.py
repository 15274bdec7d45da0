"""The preconditioners under which the field's published networks were trained."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional

from scorefield._derivatives import unrecorded
from scorefield.processes import VP, GaussianSDE
from scorefield.score.preconditioned import Coefs, OfNoise, Precond


@dataclass(frozen=True)
class VPPrecond(OfNoise):
    """F = ehat, told the time times a factor  (Song et al. 2021, for VP and sub-VP; Karras et al. 2022, table 1).

    D = (x - sigma F(x, scale t)) / alpha.

    Args:
        scale: of the time, 999 in both papers' code, whose networks count times from 0 to 999.
    """

    scale: float = 999.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"wanted a scale > 0; got {self.scale}")

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / alpha, -sigma / alpha, torch.ones_like(t), self.scale * t)


@dataclass(frozen=True)
class VEPrecond(OfNoise):
    """score = F / sigma, told log sigma  (Song et al. 2021, for VE; Karras et al. 2022, table 1).

    With s = sigma / alpha:  D = x/alpha + s F(x/alpha, log(s / unit)). Both papers' networks see data in [-1, 1], and
    count noise in the units of data in [0, 1].

    Args:
        unit: in which the network is told s, > 0: 2 for those networks.
    """

    unit: float = 1.0

    def __post_init__(self) -> None:
        if not self.unit > 0:
            raise ValueError(f"wanted a unit > 0; got {self.unit}")

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha = sde.alpha(t)
        log_s = -0.5 * sde.log_snr(t)
        return Coefs(1 / alpha, log_s.exp(), 1 / alpha, log_s - math.log(self.unit))


@dataclass(frozen=True)
class NCSNPrecond(OfNoise):
    """F is the score, or sigma times the score, of one of N geometric noise levels, told its number.

    With s = sigma / alpha:  D = x/alpha + s F(x/alpha, k)  (Song & Ermon 2020), or with a unit
    D = x/alpha + s^2 F(x/alpha, k) / unit  (Song & Ermon 2019), where

        k = (N - 1) log(sigma_max / s) / log(sigma_max / sigma_min),

    the number of the level, from 0 for the largest to N - 1 for the smallest. Noise levels in between have numbers in
    between, which the network has not seen: the authors' code rounds to whole ones. Those beyond the ends have the
    number of the end.

    Args:
        sigma_min: smallest noise level, in the model's space, > 0.
        sigma_max: largest noise level.
        levels: N, at least 2.
        unit: F is the score itself, in these units of the model's space, such as 2 for a score of data in [0, 1] where
            the model's lie in [-1, 1]; None if the score is F / sigma.
    """

    sigma_min: float
    sigma_max: float
    levels: int
    unit: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and self.levels >= 2):
            raise ValueError(
                f"wanted 0 < sigma_min < sigma_max and at least 2 levels; got {self.sigma_min}, {self.sigma_max} and "
                f"{self.levels}"
            )
        if self.unit is not None and not self.unit > 0:
            raise ValueError(f"wanted a unit > 0, or None; got {self.unit}")

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha = sde.alpha(t)
        log_s = -0.5 * sde.log_snr(t)
        share = (math.log(self.sigma_max) - log_s) / math.log(self.sigma_max / self.sigma_min)
        out = log_s.exp() if self.unit is None else (2 * log_s).exp() / self.unit
        return Coefs(1 / alpha, out, 1 / alpha, (self.levels - 1) * share.clamp(0, 1))


class Schedule(Enum):
    """How the variances of the steps of DDPM grow."""

    LINEAR = 0
    SCALED_LINEAR = 1
    COSINE = 2


class Prediction(Enum):
    """What the network of DDPM predicts."""

    NOISE = 0
    VELOCITY = 1
    DATA = 2


@dataclass(frozen=True)
class DDPMPrecond(Precond):
    """F predicts the noise, the velocity or the data, told the number of a step of DDPM  (Ho et al. 2020).

    With c = sqrt(alpha^2 + sigma^2), a = alpha / c and s = sigma / c, the coefficients of the process scaled to unit
    variance, F is given x / c and k:

        noise      D = (x/c - s F) / a        velocity   D = a x/c - s F        data   D = F

    The variances are beta_k, k = 0 .. N - 1; the step k has a_k^2 = (1 - beta_0) ... (1 - beta_k). It is found from the
    log-SNR, linearly between those of the steps, and is 0 or N - 1 beyond these. The network has seen whole steps only,
    and most samplers of others round to these.

    Args:
        beta_start: first variance, > 0.
        beta_end: last variance, < 1.
        steps: N.
        schedule: LINEAR in beta, SCALED_LINEAR in sqrt(beta), or COSINE with variances up to 0.999, which does without
            beta_start and beta_end  (Nichol & Dhariwal 2021).
        prediction: what the network predicts.
        betas: all N variances, in (0, 1), instead of beta_start, beta_end and a schedule.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000
    schedule: Schedule = Schedule.LINEAR
    prediction: Prediction = Prediction.NOISE
    betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not (0 < self.beta_start <= self.beta_end < 1 and self.steps >= 2):
            raise ValueError(
                f"wanted 0 < beta_start <= beta_end < 1 and at least 2 steps; got {self.beta_start}, {self.beta_end} "
                f"and {self.steps}"
            )
        if self.betas is not None and not (len(self.betas) == self.steps and all(0 < b < 1 for b in self.betas)):
            raise ValueError(
                f"wanted one variance between 0 and 1 for each of {self.steps} steps; got {len(self.betas)} from "
                f"{min(self.betas, default=math.nan):g} to {max(self.betas, default=math.nan):g}"
            )

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        """The coefficients at time t."""
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        c = torch.hypot(alpha, sigma)
        a, s = alpha / c, sigma / c
        skip, out = {
            Prediction.NOISE: (1 / a, -s / a),
            Prediction.VELOCITY: (a, -s),
            Prediction.DATA: (torch.zeros_like(a), torch.ones_like(a)),
        }[self.prediction]
        return Coefs(skip / c, out, 1 / c, self.step(sde.log_snr(t)))

    def rest(self, coefs: Coefs, alpha: Tensor, sigma: Tensor) -> Tensor:
        """0, s^2 or 1."""
        return {
            Prediction.NOISE: torch.zeros_like(sigma),
            Prediction.VELOCITY: (sigma * coefs.inp) ** 2,
            Prediction.DATA: torch.ones_like(sigma),
        }[self.prediction]

    def process(self) -> VP:
        """VP from the first step to the last: time 1 has the log-SNR of the last, t_end = t_min that of the first."""
        first, last = self.log_snrs()[[0, -1]]
        b, total = functional.softplus(-torch.stack((first, last))).tolist()  # B = -log a^2
        low = min(self.steps * b, total)  # a line that ends at the total without falling on the way
        sde = VP(low, max(low, 2 * total - low))
        t = float(sde.time(first))
        return VP(sde.beta_min, sde.beta_max, t_min=t, t_end=t)

    def step(self, log_snr: Tensor) -> Tensor:
        """k of a log-SNR, float64."""
        table = self.log_snrs().to(log_snr.device)
        high = torch.searchsorted(-table, -log_snr.detach()).clamp(1, self.steps - 1)
        left, right = table[high - 1], table[high]
        return high - 1 + ((left - log_snr) / (left - right)).clamp(0, 1)

    def log_snrs(self) -> Tensor:
        """log(a_k^2 / (1 - a_k^2)) of the steps, (N,) in float64."""
        return _log_snrs(self.beta_start, self.beta_end, self.steps, self.schedule, self.betas).clone()


@functools.lru_cache(maxsize=32)
@unrecorded()
def _log_snrs(
    beta_start: float, beta_end: float, steps: int, schedule: Schedule, betas: tuple[float, ...] | None
) -> Tensor:
    with torch.device("cpu"):
        if betas is not None:
            beta = torch.tensor(betas, dtype=torch.float64)
        elif schedule is Schedule.COSINE:
            s = torch.arange(steps + 1, dtype=torch.float64) / steps
            bar = ((s + 0.008) / 1.008 * math.pi / 2).cos() ** 2
            beta = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
        elif schedule is Schedule.SCALED_LINEAR:
            beta = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64) ** 2
        else:
            beta = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
        log_a2 = torch.log1p(-beta).cumsum(0)
        return log_a2 - (-torch.expm1(log_a2)).log()
