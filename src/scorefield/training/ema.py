"""Moving averages of the weights."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor, nn

from scorefield._derivatives import unrecorded

WIDEST = 12**-0.5  # relative width of the plain mean of all weights so far


class Average(ABC):
    """w <- w + share (p - w) after each batch, p the model's weights.

    Args:
        model: whose parameters and floating-point buffers are averaged.
    """

    def __init__(self, model: nn.Module) -> None:
        with unrecorded():
            self.weights = {name: value.detach().clone() for name, value in floating(model).items()}

    @abstractmethod
    def share(self, seen: int, batch: int) -> float:
        """What the weights after a batch of `batch` samples count, `seen` with it in all."""

    @unrecorded()
    def update(self, model: nn.Module, seen: int, batch: int) -> None:
        """Moves towards the model's weights after a batch of `batch` samples, `seen` with it in all."""
        own, current = list(self.weights.values()), list(floating(model).values())
        share = self.share(seen, batch)
        torch._foreach_lerp_(own, current, share)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Generator[None]:
        """The averaged weights in the model inside the block, its own afterwards."""
        tensors = floating(model)
        own = {name: value.detach().clone() for name, value in tensors.items()}
        try:
            _copy(self.weights, tensors)
            yield
        finally:
            _copy(own, tensors)


class EMA(Average):
    """w <- b w + (1 - b) p with b = 2^(-batch / min(half_life, ramp seen)), both counted in samples.

    The shorter half-life at the beginning keeps a short run from being dominated by its initial weights  (Karras et al.
    2022, appendix F.2, whose code counts the samples before the batch where `seen` includes it).

    Args:
        model: whose parameters and floating-point buffers are averaged.
        half_life: samples after which a weight counts half, > 0.
        ramp: the half-life is at most this share of the samples seen.
    """

    def __init__(self, model: nn.Module, half_life: float, ramp: float = 0.05) -> None:
        if not (half_life > 0 and ramp > 0):
            raise ValueError(f"half_life and ramp must be positive; got {half_life} and {ramp}")
        super().__init__(model)
        self.half_life, self.ramp = half_life, ramp

    def share(self, seen: int, batch: int) -> float:
        """1 - b."""
        return 1 - 0.5 ** (batch / min(self.half_life, self.ramp * seen))


class PowerEMA(Average):
    """w <- b w + (1 - b) p with b = (1 - batch / seen)^(gamma + 1): a profile that widens as the run goes on.

    After n batches of one size the weights p_k after the k-th count (k / n)^(gamma + 1) - ((k - 1) / n)^(gamma + 1):
    the density (gamma + 1) tau^gamma / n^(gamma + 1) of their time tau, whose standard deviation is `width` n. The
    initial weights count nothing  (Karras et al. 2024, "Analyzing and improving the training dynamics", section 3.1).

    Args:
        model: whose parameters and floating-point buffers are averaged.
        width: standard deviation of the profile as a share of the run so far, in (0, 12^(-1/2)].
    """

    def __init__(self, model: nn.Module, width: float) -> None:
        self.width, self.gamma = width, exponent(width)
        super().__init__(model)

    def share(self, seen: int, batch: int) -> float:
        """1 - b."""
        return 1.0 if batch == seen else -math.expm1((self.gamma + 1) * math.log1p(-batch / seen))


def exponent(width: float) -> float:
    """The gamma >= 0 of a relative width s, the largest root of g^3 + 7 g^2 + (16 - s^-2) g + 12 - s^-2.

    That is s^2 = (g + 1) / ((g + 2)^2 (g + 3)), the variance of the density (g + 1) tau^g on [0, 1]  (Karras et al.
    2024, appendix C).
    """
    if not 0 < width <= WIDEST:
        raise ValueError(
            f"the relative width of an average must lie in (0, {WIDEST:.4f}], where it is the plain mean; got {width}"
        )
    return max(0.0, float(np.roots([1.0, 7.0, 16 - width**-2, 12 - width**-2]).real.max()))


def floating(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and floating-point buffers by name."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if value.is_floating_point()}


@unrecorded()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)
