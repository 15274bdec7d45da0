"""How the weights move."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimisation:
    """How the weights move.

    Args:
        lr: peak learning rate of AdamW, > 0.
        betas: of AdamW.
        weight_decay: of AdamW, 0 for Adam.
        warmup: steps of linear rise to `lr`.
        decay: steps after which the rate has fallen to 0 along a cosine; None keeps it.
        clip: largest norm of the gradient, > 0.
        half_lives: of the weights' moving averages, in samples seen; the first is the one that is used and saved as
            the model.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: int | None = None
    clip: float = 1.0
    half_lives: tuple[float, ...] = (50_000.0,)

    def __post_init__(self) -> None:
        wanted = {
            "lr > 0": self.lr > 0,
            "betas in [0, 1)": all(0 <= beta < 1 for beta in self.betas),
            "weight_decay >= 0": self.weight_decay >= 0,
            "warmup >= 0": self.warmup >= 0,
            "decay >= 1": self.decay is None or self.decay >= 1,
            "clip > 0": self.clip > 0,
            "half_lives > 0, at least one": len(self.half_lives) > 0 and min(self.half_lives) > 0,
        }
        for condition, holds in wanted.items():
            if not holds:
                raise ValueError(f"wanted {condition}; got {getattr(self, condition.split()[0])}")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 1.0 if self.decay is None else 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.decay)))
        return self.lr * rise * fall
