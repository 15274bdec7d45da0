"""`scorefield train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scorefield import plot
from scorefield._describe import describe
from scorefield.cli.losses import LossLog
from scorefield.cli.signals import Signals
from scorefield.cli.sources import Precision, Reading, directory, load_data, parse_device, save_figure, save_samples
from scorefield.data import Affine, Subset, split, transformed_std
from scorefield.model import ScoreModel
from scorefield.nn import MLP, Network, UNet, seeded
from scorefield.objectives import DenoisingScoreMatching, LabelDropout, Objective
from scorefield.processes import VP
from scorefield.score import Denoiser, EDMPrecond, Precond, Preconditioned
from scorefield.sde import GaussianSDE
from scorefield.train import Batches, Checkpoints, Optimisation, TrainState, distributed, validation_loss
from scorefield.train import train as training

CHECKPOINTS, STATE, LOSSES, PICTURES = "checkpoints", "state.safetensors", "loss.csv", "samples"


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
    accumulate: int = 1,
    use_labels: bool = True,
    label_dropout: float = 0.1,
    held_out: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = Precision.float32,
    compile: bool = False,
    save_every: int = 1000,
    sample_every: int | None = None,
    keep: int = 2,
    tensorboard: bool = False,
    resume: bool = False,
    init: Path | None = None,
    classes: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Trains a score model on your data and writes it into a directory.

    The directory gets the model with averaged weights (config.json, model.safetensors), the losses (loss.csv and
    loss.png), samples (samples.png) and the newest checkpoints to resume from. With
    `torchrun --nproc-per-node N -m scorefield train ...` N processes share each batch.

    Args:
        data: a name (digits, two_moons, checkerboard, rings, mixture) or a path: .npy, .npz, .csv, .tsv, .parquet, IDX
            (MNIST), CIFAR's binary version, a folder or archive of pictures or .wav files, a folder saved by Hugging
            Face datasets.
        out: directory of the run.
        sde: the forward process, VP by default.
        net: the network: MLP by default for vectors, UNet for anything with space.
        precond: how the network makes a denoiser, EDMPrecond with the data's standard deviation by default.
        objective: what is minimised, EDM's by default.
        optimisation: learning rate, averaging and the like; by default the rate falls to zero over the steps.
        steps: of training.
        batch_size: samples in a step, of all processes together.
        accumulate: parts that a batch is run in, one after the other, where memory is short.
        use_labels: give the network the data's labels, if there are any.
        label_dropout: share of the labels hidden, so that the model also knows the data without labels.
        held_out: share of the data kept for the validation loss.
        seed: of the split, the initial weights and the training noise.
        device: auto, cpu, cuda, cuda:1, ...
        precision: float32 or bfloat16.
        compile: compile the network by torch.compile, worth it for long runs on a GPU.
        save_every: steps between two checkpoints.
        sample_every: steps between two pictures of samples; at the end alone by default.
        keep: number of checkpoints kept.
        tensorboard: write the losses for TensorBoard as well.
        resume: go on from the newest sound checkpoint in `out`, or begin if there is none.
        init: directory of a trained model to start from: its network, process, preconditioner and transform.
        classes: your own classes that the model of `init` is made of, by their import paths.
        reading: how the data are read.
    """
    for name, value in {"steps": steps, "save_every": save_every, "sample_every": sample_every}.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    if not (0 <= label_dropout <= 1 and 0 <= seed < 2**63):
        raise ValueError(
            f"wanted --label_dropout from 0 to 1 and --seed from 0 to 2^63 - 1; got {label_dropout} and {seed}"
        )
    if init and (sde or net or precond):
        raise ValueError("--init brings its network, process and preconditioner: leave --net, --sde and --precond out")
    place = parse_device(device)
    checkpoints = Checkpoints(out / CHECKPOINTS, keep)
    newest = checkpoints.newest() if resume else None
    if newest is None and any((out / name).exists() for name in ("config.json", CHECKPOINTS)):
        raise ValueError(
            f"--out {out}: holds a run already, "
            + ("but no checkpoint to go on from" if resume else "go on with it by --resume true")
            + ", or name another directory"
        )
    with directory(out):
        source = load_data(data, reading, folder=out)
        source = source if use_labels else source.unlabelled()
        kept, held = split(source, held_out, seed)
        if init:
            base = ScoreModel.load(init, classes=classes, device=place)
            _check_fits(base, kept, init)
            denoiser, transform = base.denoiser, base.transform
        else:
            transform = Affine.fitted(kept)
            with seeded(seed):
                network = (net or usual_network(kept.event_shape))(kept.event_shape, kept.classes)
            std = transformed_std(kept, transform)
            denoiser = Preconditioned(network, sde or VP(), precond or EDMPrecond(std)).to(place)
        objective = objective or DenoisingScoreMatching.edm(transformed_std(kept, transform))
        if kept.classes and label_dropout:
            objective = LabelDropout(objective, label_dropout)
        state = TrainState(denoiser, optimisation or Optimisation(decay=steps), seed=seed)
        run = {
            "data": data,
            "rows": len(source),
            "classes": source.classes,
            "held_out": held_out,
            "transform": describe(transform),
            "batch_size": batch_size,
            "denoiser": describe(denoiser),
            "objective": describe(objective),
            "optimisation": describe(state.optimisation),
            "precision": precision.name,
        }
        log = LossLog(out / LOSSES, out / "tensorboard" if tensorboard else None)
        if newest:
            state.load(newest / STATE, run)
            log.load(up_to=state.step)
        if distributed.rank() == 0:
            _say_what(data, kept, denoiser, place)
        about = {"data": data, "steps": steps, "batch_size": batch_size, "seed": seed}
        needs_label = kept.classes > 0 and label_dropout == 0

        def model(k: int = 0) -> ScoreModel:
            plain = {**about, "step": state.step}
            averaged = state.averaged(k)
            return ScoreModel(averaged, kept.event_shape, transform, kept.classes, plain, needs_label)

        def check(step: int) -> None:
            if not math.isfinite(log.recent()):
                raise ValueError(
                    f"the loss is {log.recent()} by step {step}; the last good checkpoint is that of step {saved}: "
                    "lower --optimisation.lr, lengthen --optimisation.warmup, or look for outliers in the data"
                )

        def save() -> None:
            check(state.step)
            log.validation.append((state.step, *validation_loss(state, checks, objective, count=4)))
            loss, error = log.validation[-1][1:]
            tqdm.write(f"step {state.step}: loss {log.recent():.4g}, held out {loss:.4g} +- {error:.2g}")
            log.save()  # before the checkpoint: rows beyond it are dropped when a run is resumed
            checkpoints.save(state.step, lambda folder: state.save(folder / STATE, run))
            model().save(out)
            for k, half_life in enumerate(state.optimisation.half_lives[1:], start=1):
                model(k).save(out / f"half_life_{half_life:g}")
            save_figure(plot.loss_curve(log.steps, log.losses, log.validation), out / "loss.png")

        small = source.x.numel() * source.x.element_size() if isinstance(source.x, Tensor) else math.inf
        if place.type == "cuda" and small < torch.cuda.get_device_properties(place).total_memory / 4:
            source.to(place)
        batches = Batches(kept, transform, batch_size, seed=seed, device=place)
        checks = Batches(held, transform, min(512, len(held)), seed=seed + 1, device=place)
        saved, first = state.step, distributed.rank() == 0
        bar = tqdm(initial=saved, total=steps, unit="step", mininterval=0.5, disable=None if first else True)
        trained = training(
            state,
            batches,
            objective,
            steps=steps,
            precision=precision.value,
            accumulate=accumulate,
            compiled=compile,
        )
        with bar, Signals() as signals:
            for info in trained:
                log.add(info)
                bar.update()
                if info.step % 50 == 0:
                    bar.set_postfix(loss=f"{log.recent():.4g}")
                    check(info.step)
                stop = signals.arrived()
                if info.step % save_every == 0 or info.step == steps or stop:
                    if first:
                        save()
                    distributed.wait()
                    saved = info.step
                if first and sample_every and info.step % sample_every == 0:
                    _draw(model(), kept, out / PICTURES / f"{info.step:09d}.png")
                if stop:
                    raise SystemExit(signals.status(f"saved at step {info.step}: go on by --resume true"))
        if first:
            _draw(model(), kept, out / "samples.png")
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


def _check_fits(base: ScoreModel, kept: Subset, init: Path) -> None:
    have = kept.event_shape, kept.levels, kept.classes
    wanted = base.event_shape, base.transform.levels, base.classes
    if have[:2] != wanted[:2] or kept.classes > base.classes:
        raise ValueError(
            f"--init {init}: its data have the event shape, levels and classes {wanted}, these have {have}: train anew"
        )


def _say_what(data: str, kept: Subset, denoiser: Denoiser, place: torch.device) -> None:
    values = "real numbers" if kept.levels is None else f"integers from 0 to {kept.levels - 1}"
    net: Any = getattr(denoiser, "net", denoiser)
    count = sum(p.numel() for p in nn.Module.parameters(net))
    print(f"{data}: {len(kept)} events of shape {kept.event_shape}, {values}, {kept.classes or 'no'} classes;")
    print(f"{type(denoiser.sde).__name__} process, {type(net).__name__} with {count:,} parameters, on {place}")


def _draw(model: ScoreModel, kept: Subset, out: Path) -> None:
    """Draws samples as a picture, if they can be drawn."""
    if plot.is_image(kept.event_shape) or kept.event_shape == (2,):
        count = 64 if plot.is_image(kept.event_shape) else 2000
        cond = kept.rows(torch.arange(count) % len(kept)).cond
        x = model.sample(
            seeds=range(count), label=cond["label"] if model.needs_label else None, cond=cond.get("cond"), batch_size=64
        )
        out.parent.mkdir(exist_ok=True)
        save_samples(x, model.transform.levels, out)
