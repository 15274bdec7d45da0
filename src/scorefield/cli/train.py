"""`scorefield train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from scorefield import plot
from scorefield._describe import describe
from scorefield.cli.losses import LossLog
from scorefield.cli.sources import Precision, directory, load_data, parse_device, save_figure, save_samples
from scorefield.data import Affine, split, transformed_std
from scorefield.model import ScoreModel
from scorefield.nn import MLP, Network, UNet, seeded
from scorefield.objectives import DenoisingScoreMatching, LabelDropout, Objective
from scorefield.processes import VP
from scorefield.score import EDMPrecond, Precond, Preconditioned
from scorefield.sde import GaussianSDE
from scorefield.train import Batches, Optimisation, TrainState, validation_loss
from scorefield.train import train as training

STATE, LOSSES = "state.safetensors", "loss.csv"


def train(
    data: str,
    out: Path,
    sde: GaussianSDE | None = None,
    net: Callable[[Sequence[int], int], Network] | None = None,
    precond: Precond | None = None,
    objective: Objective | None = None,
    optimisation: Optimisation | None = None,
    steps: int = 10_000,
    batch_size: int = 128,
    label_dropout: float = 0.1,
    held_out: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = Precision.float32,
    save_every: int = 1000,
    resume: bool = False,
) -> None:
    """Trains a score model on your data and writes it into a directory.

    The directory gets the model with averaged weights (config.json, model.safetensors), the losses (loss.csv and
    loss.png), samples (samples.png) and the state to resume from (state.safetensors).

    Args:
        data: a name (digits, two_moons, checkerboard, rings, mixture) or a .npy or .npz file.
        out: directory of the run.
        sde: the forward process, VP by default.
        net: the network: MLP by default for vectors, UNet for anything with space.
        precond: how the network makes a denoiser, EDMPrecond with the data's standard deviation by default.
        objective: what is minimised, EDM's by default.
        optimisation: learning rate, averaging and the like; by default the rate falls to zero over the steps.
        steps: of training.
        batch_size: samples in a step.
        label_dropout: share of the labels hidden, so that the model also knows the data without labels.
        held_out: share of the data kept for the validation loss.
        seed: of the split, the initial weights and the training noise.
        device: auto, cpu, cuda, cuda:1, ...
        precision: float32 or bfloat16.
        save_every: steps between two saves.
        resume: go on from the state in `out`.
    """
    if steps < 1 or save_every < 1:
        raise ValueError(f"--steps and --save_every must be at least 1; got {steps} and {save_every}")
    if not (0 <= label_dropout <= 1 and 0 <= seed < 2**63):
        raise ValueError(
            f"wanted --label_dropout from 0 to 1 and --seed from 0 to 2^63 - 1; got {label_dropout} and {seed}"
        )
    place, source = parse_device(device), load_data(data)
    if (out / STATE).exists() and not resume:
        raise ValueError(f"--out {out}: holds a run already: go on with it by --resume true, or name another directory")
    kept, held = split(source, held_out, seed)
    transform = Affine.fitted(kept)
    std = transformed_std(kept, transform)
    with seeded(seed):
        network = (net or usual_network(kept.event_shape))(kept.event_shape, kept.classes)
    denoiser = Preconditioned(network, sde or VP(), precond or EDMPrecond(std)).to(place)
    objective = objective or DenoisingScoreMatching.edm(std)
    if kept.classes and label_dropout:
        objective = LabelDropout(objective, label_dropout)
    state = TrainState(denoiser, optimisation or Optimisation(decay=steps), seed=seed)
    about = {"data": data, "steps": steps, "batch_size": batch_size, "seed": seed}
    run = {
        "data": data,
        "rows": len(source),
        "held_out": held_out,
        "transform": describe(transform),
        "batch_size": batch_size,
        "denoiser": describe(denoiser),
        "objective": describe(objective),
        "optimisation": describe(state.optimisation),
        "precision": precision.name,
    }
    values = "real numbers" if kept.levels is None else f"integers from 0 to {kept.levels - 1}"
    weights = sum(p.numel() for p in network.parameters())
    print(f"{data}: {len(kept)} events of shape {kept.event_shape}, {values}, {kept.classes or 'no'} classes;")
    print(f"{type(denoiser.sde).__name__} process, {type(network).__name__} with {weights:,} parameters, on {place}")
    log = LossLog(out / LOSSES)
    if resume:
        state.load(out / STATE, run)
        log.load(up_to=state.step)

    def model() -> ScoreModel:
        return ScoreModel(
            state.averaged(),
            kept.event_shape,
            transform,
            kept.classes,
            needs_label=kept.classes > 0 and label_dropout == 0,
            about={**about, "step": state.step},
        )

    def save() -> None:
        checked = validation_loss(state, checks, objective, count=4)
        if not math.isfinite(log.recent() + checked[0]):
            raise ValueError(
                f"the loss is not finite at step {state.step} ({log.recent()}, held out {checked[0]}), so nothing more "
                "is saved: lower --optimisation.lr or lengthen --optimisation.warmup"
            )
        log.validation.append((state.step, *checked))
        tqdm.write(f"step {state.step}: loss {log.recent():.4g}, held out {checked[0]:.4g} +- {checked[1]:.2g}")
        model().save(out)
        log.save()  # before the state: rows beyond it are dropped when a run is resumed
        state.save(out / STATE, run)
        save_figure(plot.loss_curve(log.steps, log.losses, log.validation), out / "loss.png")

    batches = Batches(kept, transform, batch_size, seed=seed, device=place)
    checks = Batches(held, transform, min(512, len(held)), seed=seed + 1, device=place)
    with directory(out), tqdm(initial=state.step, total=steps, unit="step", mininterval=0.5, disable=None) as bar:
        for info in training(state, batches, objective, steps=steps, precision=precision.value):
            log.add(info)
            bar.update()
            if info.step % save_every == 0 or info.step == steps:
                save()
            if info.step % 50 == 0:
                bar.set_postfix(loss=f"{log.recent():.4g}")
    if plot.is_image(kept.event_shape) or kept.event_shape == (2,):
        count = 64 if plot.is_image(kept.event_shape) else 2000
        result, cond = model(), kept.rows(torch.arange(count) % len(kept)).cond
        label = cond["label"] if result.needs_label else None
        x = result.sample(seeds=range(count), label=label, cond=cond.get("cond"))
        save_samples(x, transform.levels, out / "samples.png")
    print(f"trained {state.step} steps; the model and its pictures are in {out}")


def usual_network(event_shape: Sequence[int]) -> type[Network]:
    """MLP for vectors and the like; UNet for signals, images and volumes whose sides its three levels divide."""
    if len(event_shape) == 3 and event_shape[2] in (1, 3, 4) and event_shape[0] > 4:
        raise ValueError(
            f"events of shape {tuple(event_shape)} look like images with their channels last: transpose them to "
            "(n, channels, height, width), or name the network by --net"
        )
    sides = event_shape[1:]
    return UNet if 1 <= len(sides) <= 3 and all(side % 4 == 0 and side >= 16 for side in sides) else MLP
