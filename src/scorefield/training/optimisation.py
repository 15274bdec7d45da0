"""Hyperparameters of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorefield.training.ema import WIDEST


@dataclass(frozen=True)
class Optimisation:
    """Hyperparameters of AdamW, its schedule and the moving averages of the weights.

    In step k = 0, 1, ... of n the learning rate is

        lr min(1, (k + 1) / warmup) (1 + cos(pi k / n)) / 2        without decay lr min(1, (k + 1) / warmup)

    Args:
        lr: learning rate of AdamW, > 0.
        betas: of AdamW.
        weight_decay: of AdamW, 0 for Adam.
        warmup: steps of linear rise.
        decay: let the rate fall to 0 at the last step, along a cosine.
        clip: the gradient of the loss per dimension of the data is scaled down to this norm if it is larger, > 0.
        half_lives: of the weights' moving averages, in samples seen; the first is the one that is used and saved as
            the model.
        widths: of power-function averages, as shares of the run so far, each in (0, 12^(-1/2)]: with two or three, such
            as 0.05 and 0.1, the average of any width can be found after the run (`Snapshots`). Each costs a copy of the
            weights in memory, an update of it in each step, and 17 to 33 copies on the disk.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: bool = True
    clip: float = 1.0
    half_lives: tuple[float, ...] = (50_000.0,)
    widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wanted = {
            "lr > 0": self.lr > 0,
            "betas in [0, 1)": all(0 <= beta < 1 for beta in self.betas),
            "weight_decay >= 0": self.weight_decay >= 0,
            "warmup >= 0": self.warmup >= 0,
            "clip > 0": self.clip > 0,
            "half_lives > 0, at least one": len(self.half_lives) > 0 and min(self.half_lives) > 0,
            f"widths in (0, {WIDEST:.4f}]": all(0 < width <= WIDEST for width in self.widths),
            "widths that differ": len(set(self.widths)) == len(self.widths),
        }
        for condition, holds in wanted.items():
            if not holds:
                raise ValueError(f"wanted {condition}; got {getattr(self, condition.split()[0])}")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.decay else 1.0
        return self.lr * rise * fall
