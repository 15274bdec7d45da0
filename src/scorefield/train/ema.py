"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn


class EMA:
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
        self.half_life, self.ramp = half_life, ramp
        self.weights = {name: value.detach().clone() for name, value in averaged(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, seen: int, batch: int) -> None:
        """Moves towards the model's weights after a batch of `batch` samples, `seen` with it in all."""
        share = 1 - 0.5 ** (batch / min(self.half_life, self.ramp * seen))
        own, current = list(self.weights.values()), list(averaged(model).values())
        torch._foreach_lerp_(own, current, share)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Generator[None]:
        """The averaged weights in the model inside the block, its own afterwards."""
        tensors = averaged(model)
        own = {name: value.detach().clone() for name, value in tensors.items()}
        try:
            _copy(self.weights, tensors)
            yield
        finally:
            _copy(own, tensors)


def averaged(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and floating-point buffers by name."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if value.is_floating_point()}


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)
