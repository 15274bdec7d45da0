"""What a training run is at one moment: everything that the next step depends on."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield._files import check_tensors, read_tensors, write_tensors
from scorefield.score import Denoiser
from scorefield.train.ema import EMA


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
        half_life: of the weights' moving average, in samples seen.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: int | None = None
    clip: float = 1.0
    half_life: float = 50_000.0

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.clip > 0 and self.warmup >= 0 and self.weight_decay >= 0):
            raise ValueError(
                "wanted lr > 0, clip > 0, warmup >= 0 and weight_decay >= 0; "
                f"got lr={self.lr}, clip={self.clip}, warmup={self.warmup}, weight_decay={self.weight_decay}"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.decay))) if self.decay else 1.0
        return self.lr * rise * fall


class TrainState:
    """Model, optimiser, averaged weights, seed and step number; `train` advances it.

    Args:
        model: the denoiser to train, on its device.
        optimisation: how its weights move.
        seed: of everything random in the run.
    """

    def __init__(self, model: Denoiser, optimisation: Optimisation | None = None, *, seed: int) -> None:
        self.model, self.seed, self.step = model, seed, 0
        self.optimisation = o = optimisation or Optimisation()
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise ValueError(f"{type(model).__name__} has no parameters to train")
        self.optimiser = torch.optim.AdamW(trainable, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, fused=True)
        self.ema = EMA(model, o.half_life)

    def averaged(self) -> Denoiser:
        """A copy of the model with the averaged weights, in evaluation mode: what to sample from and to save."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.ema.weights, strict=False)
        return model.eval()

    def save(self, path: str | Path) -> None:
        """Writes the state to one safetensors file."""
        moments = self.optimiser.state_dict()["state"]
        tensors: dict[str, Tensor] = {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{f"ema.{name}": value for name, value in self.ema.weights.items()},
            **{f"optimiser.{k}.{name}": value for k, values in moments.items() for name, value in values.items()},
        }
        write_tensors(Path(path), tensors, {"step": self.step, "seed": self.seed})

    def load(self, path: str | Path) -> None:
        """Goes on from a file that `save` wrote for the same model and seed."""
        tensors, about = read_tensors(Path(path))
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimiser": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        if about.get("seed") != self.seed or "step" not in about:
            raise ValueError(f"{path}: is not a training state of seed {self.seed}; it says {about or 'nothing'}")
        check_tensors(parts["model"], self.model.state_dict(), f"{path} (model)")
        check_tensors(parts["ema"], self.ema.weights, f"{path} (moving average)")
        self.model.load_state_dict(parts["model"])
        for name, value in self.ema.weights.items():
            value.copy_(parts["ema"][name])
        moments: dict[int, dict[str, Any]] = {}
        for name, value in parts["optimiser"].items():
            k, _, rest = name.partition(".")
            moments.setdefault(int(k), {})[rest] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.step = int(about["step"])
