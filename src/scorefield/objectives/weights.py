"""Weights w of denoising score matching: functions of the log-SNR and of the density p it is drawn from.

The loss is E_{log_snr ~ p} [w/2 |ehat - eps|^2], that is int w p / 2 |ehat - eps|^2 dlog_snr, so what a network is
trained for is the product w p (Kingma & Gao 2023, "Understanding diffusion objectives as the ELBO").

| published objective                             | density        | weight           |
|-------------------------------------------------|----------------|------------------|
| NCSN, DDPM "simple", SDE with lambda = sigma^2   | UniformTime    | SimpleWeight     |
| SDE with lambda = g^2: maximum likelihood        | UniformTime    | LikelihoodWeight |
| the same, importance-sampled (ScoreFlow, VDM)    | UniformLogSNR  | LikelihoodWeight |
| EDM                                             | LogNormalSigma | EDMWeight        |
| min-SNR                                         | UniformTime    | MinSNRWeight     |
| velocity of VP                                  | UniformTime    | EDMWeight(1)     |
| NCSN of N levels                                | Levels         | SimpleWeight     |
| denoising at one level                          | OneLevel       | SimpleWeight     |
| maximum likelihood with the least noise         | AdaptiveLogSNR | LikelihoodWeight |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Weight(ABC):
    """A function of the log-SNR and of the density p it is drawn from."""

    @abstractmethod
    def __call__(self, log_snr: Tensor, p: Tensor) -> Tensor:
        """w for each sample."""


@dataclass(frozen=True)
class SimpleWeight(Weight):
    """w = 1: lambda = sigma^2 of Song et al. 2021, "simple" of Ho et al. 2020."""

    def __call__(self, log_snr: Tensor, p: Tensor) -> Tensor:
        """1."""
        return log_snr.new_ones(log_snr.shape)


@dataclass(frozen=True)
class LikelihoodWeight(Weight):
    """w = 1 / p: lambda = g^2, the bound on -log p whatever the density  (Song et al. 2021, "ScoreFlow", eq. 8)."""

    def __call__(self, log_snr: Tensor, p: Tensor) -> Tensor:
        """1 / p."""
        return 1 / p


@dataclass(frozen=True)
class EDMWeight(Weight):
    """w = 1 + (sigma / alpha)^2 / sigma_data^2, the square of 1 / c_out in terms of the noise  (Karras et al. 2022).

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: float

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data must be positive; got {self.sigma_data}")

    def __call__(self, log_snr: Tensor, p: Tensor) -> Tensor:
        """1 + exp(-log_snr) / sigma_data^2."""
        return 1 + (-log_snr).exp() / self.sigma_data**2


@dataclass(frozen=True)
class MinSNRWeight(Weight):
    """w = min(1, gamma / SNR), which is min(SNR, gamma) on |D - x_0|^2  (Hang et al. 2023).

    Args:
        gamma: > 0.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma must be positive; got {self.gamma}")

    def __call__(self, log_snr: Tensor, p: Tensor) -> Tensor:
        """min(1, gamma exp(-log_snr))."""
        return (self.gamma * (-log_snr).exp()).clamp_max(1)
