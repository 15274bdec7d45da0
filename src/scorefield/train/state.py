"""What a training run is at one moment: everything that the next step depends on."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
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
        wanted = {
            "lr > 0": self.lr > 0,
            "betas in [0, 1)": all(0 <= beta < 1 for beta in self.betas),
            "weight_decay >= 0": self.weight_decay >= 0,
            "warmup >= 0": self.warmup >= 0,
            "decay >= 1": self.decay is None or self.decay >= 1,
            "clip > 0": self.clip > 0,
            "half_life > 0": self.half_life > 0,
        }
        for condition, holds in wanted.items():
            if not holds:
                raise ValueError(f"wanted {condition}; got {getattr(self, condition.split()[0])}")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 1.0 if self.decay is None else 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.decay)))
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
        for p in trainable:  # now rather than at the first step, so that a state is of one form at every step
            step = torch.zeros((), dtype=torch.float32, device=p.device)
            self.optimiser.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        self.ema = EMA(model, o.half_life)

    def averaged(self) -> Denoiser:
        """A copy of the model with the averaged weights, in evaluation mode: what to sample from and to save."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.ema.weights, strict=False)
        return model.eval()

    def save(self, path: str | Path, run: Mapping[str, Any] | None = None) -> None:
        """Writes the state to one safetensors file.

        Args:
            path: the file; an older one is replaced when the new one is complete.
            run: plain values that say what the run is, to be compared by `load`.
        """
        write_tensors(Path(path), self._tensors(), {"step": self.step, "seed": self.seed, "run": dict(run or {})})

    def load(self, path: str | Path, run: Mapping[str, Any] | None = None) -> None:
        """Goes on from a file that `save` wrote for the same model, seed and run; on a misfit nothing changes."""
        tensors, about = read_tensors(Path(path))
        step, own = about.get("step"), self._tensors()
        if not isinstance(step, int) or step < 0 or about.get("seed") != self.seed:
            raise ValueError(f"{path}: is not a training state of seed {self.seed}; it says {str(about)[:200]}")
        check_tensors(tensors, own, str(path))
        then, now = about.get("run", {}), json.loads(json.dumps(dict(run or {})))
        for name in now:
            if now[name] != then.get(name):
                raise ValueError(
                    f"{path}: is of another run: its {name} was {then.get(name)}, now {now[name]}: "
                    "give the options of that run, or begin another"
                )
        for name, value in own.items():
            value.copy_(tensors[name])
        self.step = step

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name; they share its memory."""
        moments = self.optimiser.state_dict()["state"]
        return {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{f"ema.{name}": value for name, value in self.ema.weights.items()},
            **{f"optimiser.{k}.{name}": value for k, values in moments.items() for name, value in values.items()},
        }
