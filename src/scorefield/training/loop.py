"""The training loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scorefield._derivatives import lasting, recording, unrecorded
from scorefield._device import widest
from scorefield._noise import Noise
from scorefield.nn import Network, Potential, seeded
from scorefield.objectives import Objective, adaptive_densities
from scorefield.score import evaluating
from scorefield.training import distributed
from scorefield.training.batches import Batch
from scorefield.training.state import Model, TrainState


class StepInfo(NamedTuple):
    """What a training step reports; tensors stay on the device until somebody reads them.

    Attributes:
        step: number of steps done.
        loss: mean over the batch, of all processes.
        gradient_norm: of what is differentiated, before clipping.
        lr: learning rate of the step.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    lr: float


@runtime_checkable
class BatchSource(Protocol):
    """Batches by the number of the step, such as `Batches`."""

    size: int

    def part(self, step: int, first: int, last: int) -> Batch:
        """The samples at the places first .. last - 1 of a step's batch of `size`."""
        ...


class Losses(nn.Module):
    """Model and objective as one module, which is what DistributedDataParallel and torch.compile take.

    Args:
        model: what to train.
        objective: the loss of each sample.
    """

    def __init__(self, model: nn.Module, objective: Objective[Any]) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x0: Tensor, noise: Noise, cond: dict[str, Tensor]) -> Tensor:
        """The losses of a batch."""
        return self.objective(self.model, x0, noise=noise, **cond)


def _compile(model: nn.Module, objective: Objective[Any]) -> None:
    """Compiles the model's network, which objectives call by itself."""
    net = getattr(model, "net", model)
    if objective.differentiates or isinstance(net, Potential):
        taker = type(objective).__name__ if objective.differentiates else "an energy"
        raise ValueError(
            f"{taker} takes second derivatives, which compiled networks do not have: train without compiling"
        )
    net.compile()


def train(
    state: TrainState[Model],
    batches: BatchSource,
    objective: Objective[Model],
    *,
    steps: int,
    precision: torch.dtype | None = None,
    accumulate: int = 1,
    compiled: bool = False,
) -> Iterator[StepInfo]:
    """Trains up to step `steps`, one step for each item that the caller takes.

    A step is a function of the state, the batch of its number and the run's seed: a run that was saved and loaded goes
    on as if it had not stopped, and neither the number of processes nor that of parts changes it beyond rounding, but
    for the masks of dropout. Among several processes (see `distributed.joined`) each must make the same calls.

    What is differentiated is the loss per dimension of the data, so that `clip` means the same for all data; of an
    objective that is no sum over dimensions, the loss itself.

    Args:
        state: advanced in place; save it between two items.
        batches: addressed by the step.
        objective: the loss of each sample.
        steps: number of the last step, counted from the beginning of the run.
        precision: torch.bfloat16 to run the network in mixed precision; None for the weights' own.
        accumulate: number of micro-batches of a batch, whose gradients are accumulated, for want of memory.
        compiled: compile the network by torch.compile.
    """
    world, rank, size = distributed.world(), distributed.rank(), batches.size
    if not 1 <= accumulate * world <= size:
        raise ValueError(f"a batch of {size} samples cannot be cut into {world} processes x {accumulate} micro-batches")
    if precision not in (None, torch.bfloat16):
        raise ValueError(f"mixed precision is torch.bfloat16, whose range needs no loss scaling; got {precision}")
    weights = [p for group in state.optimiser.param_groups for p in group["params"]]
    device = weights[0].device
    losses: Any = Losses(state.model, objective)
    densities = list(adaptive_densities(objective))
    for k, density in enumerate(densities):
        table = state.learnt.setdefault(str(k), lasting(torch.zeros_like(density.table)))
        if table.shape != density.table.shape:
            raise ValueError(f"the state has learnt {table.shape[1]} bins of {density}: give as many")
        density.table = table
    if compiled:
        _compile(state.model, objective)
    if world > 1:
        losses = DistributedDataParallel(losses, device_ids=[device] if device.type == "cuda" else None)
    networks = [part for part in state.model.modules() if isinstance(part, Network)]
    parts = [distributed.share(size, accumulate * rank + k, accumulate * world) for k in range(accumulate)]
    while state.step < steps:
        with recording():
            state.model.train()
            rate = state.optimisation.rate(state.step, steps)
            for group in state.optimiser.param_groups:
                group["lr"] = rate
            state.optimiser.zero_grad(set_to_none=True)
            loss = torch.zeros((), device=device)
            for part in parts:
                batch = batches.part(state.step, part.start, part.stop)
                waits = part is parts[-1] or world == 1  # the gradients of all processes meet after the last part
                with contextlib.nullcontext() if waits else losses.no_sync():
                    with (
                        seeded(state.seed, state.step, part.start, device=device),
                        torch.autocast(device.type, precision, enabled=precision is not None),
                    ):
                        mean = losses(batch.x0, batch.noise, batch.cond).sum() / size
                    dimensions = math.prod(batch.x0.shape[1:]) if objective.extensive else 1
                    (mean * (world / dimensions)).backward()  # DistributedDataParallel takes the mean over processes
                loss = loss + mean.detach()
            norm = nn.utils.clip_grad_norm_(weights, state.optimisation.clip)
            state.optimiser.step()
            for network in networks:
                network.constrain()
            state.step += 1
            for average in state.averages:
                average.update(state.model, state.step * size, size)
            for density in densities:
                density.learn(distributed.total, size)
            info = StepInfo(state.step, distributed.total(loss), norm, rate)
        yield info


@unrecorded()
def validation_loss(
    state: TrainState[Model],
    batches: BatchSource,
    objective: Objective[Model],
    *,
    count: int,
    accumulate: int = 1,
    precision: torch.dtype | None = None,
    between: Callable[[], None] = lambda: None,
) -> float:
    """Mean loss of the averaged weights over the first `count` batches.

    The same samples, times and noise at each call and for any number of processes, which share each batch: calls differ
    by the weights alone, with an `AdaptiveLogSNR` by its times as well.

    Args:
        state: of the training.
        batches: held-out ones.
        objective: what is minimised.
        count: of batches, at least 1.
        accumulate: number of micro-batches of a batch in each process, for want of memory.
        precision: of mixed arithmetic, if any.
        between: called after each micro-batch; what it raises ends the validation and leaves the state as it was.
    """
    device = next(state.model.parameters()).device
    total = torch.zeros((), dtype=widest(device), device=device)
    rank, world = distributed.rank(), distributed.world()
    with (
        evaluating(state.model),
        state.averages[0].applied(state.model),
        torch.autocast(device.type, precision, enabled=precision is not None),
    ):
        parts = [distributed.share(batches.size, accumulate * rank + j, accumulate * world) for j in range(accumulate)]
        for k in range(count):
            for part in parts:
                if part:
                    batch = batches.part(k, part.start, part.stop)
                    losses = objective(state.model, batch.x0, noise=batch.noise, **batch.cond)
                    total += losses.to(total.dtype).sum()
                between()
    return float(distributed.total(total)) / (count * batches.size)
