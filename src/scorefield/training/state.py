"""What a training run is at one moment: everything that the next step depends on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from scorefield._derivatives import unrecorded
from scorefield._files import check_tensors, read_tensors, write_tensors
from scorefield.training.ema import EMA, Average, PowerEMA
from scorefield.training.optimisation import Optimisation

Model = TypeVar("Model", bound=nn.Module)
LEARNT = "learnt."  # begins the names of the objective's tensors in a file


class TrainState(Generic[Model]):
    """Model, optimiser, averaged weights, seed and step number; `train` advances it.

    Args:
        model: what to train, on its device: a score, a classifier, or any module with an objective of its own.
        optimisation: how its weights move.
        seed: of everything random in the run.
    """

    @unrecorded()
    def __init__(self, model: Model, optimisation: Optimisation | None = None, *, seed: int) -> None:
        self.model, self.seed, self.step = model, seed, 0
        self.optimisation = o = optimisation or Optimisation()
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise ValueError(f"{type(model).__name__} has no parameters to train")
        self.optimiser = torch.optim.AdamW(trainable, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, fused=True)
        for p in trainable:  # now rather than at the first step, so that a state is of one form at every step
            step = torch.zeros((), dtype=torch.float32, device=p.device)
            self.optimiser.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        self.averages: list[Average] = [
            *(EMA(model, half_life) for half_life in o.half_lives),
            *(PowerEMA(model, width) for width in o.widths),
        ]
        self.learnt: dict[str, Tensor] = {}  # what the objective has learnt; `train` shares it

    @unrecorded()
    def averaged(self, k: int = 0) -> Model:
        """A copy of the model with the weights' k-th average, in evaluation mode: what to sample from and to save.

        The averages of the half-lives come first, then those of the widths.
        """
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.averages[k].weights, strict=False)
        return model.eval()

    def save(self, path: str | Path, run: Mapping[str, Any] | None = None) -> None:
        """Writes the state to one safetensors file.

        Args:
            path: the file; an older one is replaced when the new one is complete.
            run: plain values that say what the run is, to be compared by `load`.
        """
        learnt = {LEARNT + name: value for name, value in self.learnt.items()}
        write_tensors(
            Path(path), {**self._tensors(), **learnt}, {"step": self.step, "seed": self.seed, "run": dict(run or {})}
        )

    @unrecorded()
    def load(self, path: str | Path, run: Mapping[str, Any] | None = None) -> None:
        """Goes on from a file that `save` wrote for the same model, seed and run; on a misfit nothing changes."""
        tensors, about = read_tensors(Path(path))
        step, own = about.get("step"), self._tensors()
        if not isinstance(step, int) or step < 0 or about.get("seed") != self.seed:
            raise ValueError(f"{path}: is not a training state of seed {self.seed}; it says {str(about)[:200]}")
        then, now = about.get("run", {}), json.loads(json.dumps(dict(run or {})))
        if changes := list(_changes(then, now, "")):
            raise ValueError(
                f"{path}: is of another run: {'; '.join(changes[:3])}: give the options of that run, or begin another"
            )
        learnt = {name: tensors.pop(name) for name in list(tensors) if name.startswith(LEARNT)}
        check_tensors(tensors, own, str(path))
        for name, value in own.items():
            value.copy_(tensors[name])
        self.step = step
        self.learnt = {name.removeprefix(LEARNT): value for name, value in learnt.items()}

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors that a new state has as well, by name; they share its memory."""
        moments = self.optimiser.state_dict()["state"]
        return {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **{f"average.{k}.{name}": v for k, e in enumerate(self.averages) for name, v in e.weights.items()},
            **{f"optimiser.{k}.{name}": value for k, values in moments.items() for name, value in values.items()},
        }


def _changes(then: Any, now: Any, name: str) -> Iterator[str]:
    """What differs between two nested plain values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:  # pyright: ignore[reportUnknownVariableType]
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}" if name else str(key))  # pyright: ignore
    elif then != now:
        yield f"its {name} was {then}, now {now}"
