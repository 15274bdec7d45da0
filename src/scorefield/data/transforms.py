"""Invertible maps between the data's own units and the model's space."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.data.dataset import ArrayDataset


class Transform(ABC):
    """x -> z with its log-determinant.

    Attributes:
        levels: number of values of discrete data, None for real numbers.
    """

    levels: int | None

    @abstractmethod
    def forward(self, x: Tensor, u: Float[Tensor, "b *event"] | None = None) -> Float[Tensor, "b *event"]:
        """From data to the model's space; discrete data need `u`, uniform in (0, 1), for dequantisation."""

    @abstractmethod
    def inverse(self, z: Float[Tensor, "b *event"]) -> Tensor:
        """From the model's space to data."""

    @abstractmethod
    def log_det(self, x: Tensor) -> Float[Tensor, "b"]:
        """log |det dz/dx| at the data."""


@dataclass(frozen=True)
class Affine(Transform):
    """z = (x - shift) / scale, for discrete data z = (x + u - shift) / scale with u uniform in (0, 1).

    Dequantisation makes a density of the probability of integers: log P(k) >= E_u log p(k + u)  (Theis et al. 2016).
    The uniform numbers keep a hair away from 0 and 1, so that float32 cannot round x + u into the next integer's cell.

    Args:
        shift: a number, or nested tuples that broadcast against an event.
        scale: > 0, likewise.
        levels: number of values 0, 1, ... of discrete data, None for real numbers.
    """

    shift: float | tuple[Any, ...] = 0.0
    scale: float | tuple[Any, ...] = 1.0
    levels: int | None = None

    def __post_init__(self) -> None:
        scale = torch.tensor(self.scale, dtype=torch.float64)
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError(
                f"the scale of a transform must be positive; got {float(scale.min())}: drop constant columns"
            )
        if not bool(torch.isfinite(torch.tensor(self.shift, dtype=torch.float64)).all()):
            raise ValueError(f"the shift of a transform must be finite; got {self.shift}")
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"discrete data have at least 2 levels; got {self.levels}")

    @classmethod
    def of_levels(cls, levels: int) -> Affine:
        """Integers 0 .. levels - 1, dequantised, to [-1, 1]."""
        return cls(shift=levels / 2, scale=levels / 2, levels=levels)

    @classmethod
    def fitted(cls, data: ArrayDataset) -> Affine:
        """The usual transform of a data set: integers to [-1, 1], real numbers to mean 0 and standard deviation 1."""
        return cls.standardising(data.x) if data.levels is None else cls.of_levels(data.levels)

    @classmethod
    def standardising(cls, x: Tensor, per_feature: bool = True) -> Affine:
        """Real data to mean 0 and standard deviation 1.

        Args:
            x: (n, *event).
            per_feature: along the first axis of the event (features, channels) each by itself, instead of all as one.
        """
        x = x.double()
        axes = [0, *range(2, x.ndim)] if per_feature and x.ndim > 1 else list(range(x.ndim))
        mean, std = x.mean(axes), x.std(axes, correction=0)
        if mean.ndim and x.ndim > 2:
            mean, std = (v.reshape(-1, *(1,) * (x.ndim - 2)) for v in (mean, std))
        return cls(_nested(mean), _nested(std))

    def forward(self, x: Tensor, u: Float[Tensor, "b *event"] | None = None) -> Float[Tensor, "b *event"]:
        """(x + u - shift) / scale."""
        if self.levels is not None:
            if u is None:
                raise ValueError("discrete data need uniform numbers u for their dequantisation")
            hair = self.levels * 2.0**-21
            x = x + (hair + (1 - 2 * hair) * u)
        elif not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        return (x - self._tensor(self.shift, x)) / self._tensor(self.scale, x)

    def inverse(self, z: Float[Tensor, "b *event"]) -> Tensor:
        """z scale + shift; for discrete data the integer below it, within the levels."""
        x = z * self._tensor(self.scale, z) + self._tensor(self.shift, z)
        if self.levels is None:
            return x
        return x.floor().clamp(0, self.levels - 1).to(torch.uint8 if self.levels <= 256 else torch.int32)

    def log_det(self, x: Tensor) -> Float[Tensor, "b"]:
        """-sum log scale."""
        total = torch.tensor(self.scale, dtype=torch.float64).log().expand(x.shape[1:]).sum()
        return torch.full((len(x),), -float(total), dtype=torch.float64, device=x.device)

    @staticmethod
    def _tensor(value: Any, like: Tensor) -> Tensor:
        return torch.tensor(value, dtype=like.dtype, device=like.device)


def _nested(values: Tensor) -> Any:
    return tuple(_nested(row) for row in values) if values.ndim else float(values)


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """-log2 P / d from the log-probability of d discrete values."""
    return nats / (-dims * math.log(2))
