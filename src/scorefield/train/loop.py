"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefield.nn import seeded
from scorefield.objectives import Objective
from scorefield.score import evaluating
from scorefield.train.batches import Batch
from scorefield.train.state import TrainState


class StepInfo(NamedTuple):
    """What a training step reports: tensors stay on the device until somebody reads them."""

    step: int
    loss: Tensor
    gradient_norm: Tensor
    lr: float


@runtime_checkable
class BatchSource(Protocol):
    """Batches by the number of the step, such as `Batches`."""

    size: int

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        ...


def train(
    state: TrainState, batches: BatchSource, objective: Objective, *, steps: int, precision: torch.dtype | None = None
) -> Iterator[StepInfo]:
    """Trains up to step `steps`, one step for each item that the caller takes.

    A step is a function of the state, the batch of its number and the run's seed: a run that was saved and loaded goes
    on as if it had not stopped.

    Args:
        state: advanced in place; save it between two items.
        batches: addressed by the step.
        objective: the loss of each sample.
        steps: number of the step to stop at, counted from the beginning of the run.
        precision: torch.bfloat16 to run the network in mixed precision; float32 otherwise.
    """
    model, o = state.model, state.optimisation
    weights = [p for group in state.optimiser.param_groups for p in group["params"]]
    device = weights[0].device.type
    while state.step < steps:
        model.train()
        batch = batches[state.step]
        for group in state.optimiser.param_groups:
            group["lr"] = o.rate(state.step)
        with seeded(state.seed, state.step), torch.autocast(device, precision, enabled=precision is not None):
            loss = objective(model, batch.x0, noise=batch.noise, **batch.cond).mean()
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, o.clip)
        state.optimiser.step()
        state.step += 1
        state.ema.update(model, state.step * batches.size, batches.size)
        yield StepInfo(state.step, loss.detach(), norm, o.rate(state.step - 1))


@torch.no_grad()
def validation_loss(
    state: TrainState, batches: BatchSource, objective: Objective, *, count: int
) -> tuple[float, float]:
    """Mean loss of the averaged weights over the first `count` batches, and its standard error.

    The same samples, times and noise at each call, so that calls differ by the weights alone.
    """
    with evaluating(state.model), state.ema.applied(state.model):
        losses = torch.cat(
            [
                objective(state.model, batch.x0, noise=batch.noise, **batch.cond)
                for batch in (batches[k] for k in range(count))
            ]
        ).double()
    return float(losses.mean()), float(losses.std()) / math.sqrt(len(losses))
