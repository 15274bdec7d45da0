"""`scorefield train`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scorefield import plot
from scorefield._describe import describe
from scorefield.cli.building import model_of, process_of_cells, process_of_scales, usual_network
from scorefield.cli.losses import LossLog
from scorefield.cli.signals import Signals
from scorefield.cli.sources import (
    Precision,
    Reading,
    directory,
    load_data,
    locked,
    parse_device,
    save_figure,
    save_samples,
)
from scorefield.data import Affine, Subset, Transform, split, transformed_spectrum, transformed_std
from scorefield.likelihood import prior_mismatch
from scorefield.model import ScoreModel
from scorefield.nn import Network, seeded
from scorefield.objectives import DenoisingScoreMatching, LabelDropout, Objective, PathTarget
from scorefield.processes import VP
from scorefield.score import Precond, ScoreModule
from scorefield.sde import SDE, GaussianSDE, ItoSDE
from scorefield.train import Batches, Checkpoints, Optimisation, Snapshots, TrainState, distributed, validation_loss
from scorefield.train import train as training

CHECKPOINTS, STATE, LOSSES, PICTURES = "checkpoints", "state.safetensors", "loss.csv", "samples"
SNAPSHOTS = "averages"
CHECKED = 1024  # samples in a validation loss


def train(
    data: str,
    out: Path,
    sde: SDE | None = None,
    noise_scales: bool = False,
    net: Callable[[Sequence[int], int], Network] | None = None,
    precond: Precond | None = None,
    energy: bool = False,
    objective: Objective | None = None,
    optimisation: Optimisation | None = None,
    steps: int = 10_000,
    batch_size: int = 128,
    accumulate: int = 1,
    use_labels: bool = True,
    label_dropout: float = 0.1,
    centred: bool = False,
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
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Trains a score model on your data and writes it into a directory.

    The directory gets the model with averaged weights (config.json, model.safetensors), that of each further half-life
    (half_life_*), the losses (loss.csv, loss.png), samples (samples.png), the newest checkpoints, and with
    --optimisation.widths the averages that `scorefield average` needs. With `torchrun --nproc-per-node N -m scorefield
    train ...` N processes share each batch.

    Args:
        data: a name (digits, two_moons, checkerboard, rings, mixture) or a path: .npy, .npz, .csv, .tsv, .parquet, IDX
            (MNIST), CIFAR's binary version, a folder or archive of pictures or .wav files, a folder saved by Hugging
            Face datasets.
        out: directory of the run.
        sde: the forward process, VP by default, or a class of your own by its import path. One that is not Gaussian
            acts on the data in their own units, and is trained by PathTarget unless `objective` says else.
        noise_scales: take VE between the noise scales that the data ask for by the rules of NCSNv2, and say which.
        net: the network: by default a UNet for signals, images and volumes with sides of 16 and more, else an MLP.
        precond: how the network makes a denoiser, EDMPrecond with the data's standard deviation by default.
        energy: learn an energy whose gradient is the score, so that the model knows its density up to a constant.
        objective: what is minimised: DenoisingScoreMatching (EDM's by default) with a density and a weight,
            SlicedScoreMatching, ImplicitScoreMatching, PathTarget, or your own by its import path.
        optimisation: learning rate, averaging and the like.
        steps: of training; a finished run is lengthened by more of them and --resume true.
        batch_size: samples in a step, of all processes together.
        accumulate: number of micro-batches of a batch, whose gradients are accumulated, for want of memory.
        use_labels: give the network the data's labels, if there are any.
        label_dropout: share of the labels hidden, so that the model also knows the data without labels.
        centred: train on integers at the centres of their cells, without dequantisation noise, by default with a VP
            that ends at noise of 0.4 cells, beyond which there is nothing but the cells to learn.
        held_out: share of the data kept for the validation loss.
        seed: of the split, the initial weights and the training noise.
        device: auto, cpu, cuda, cuda:1, ...
        precision: float32 or bfloat16.
        compile: compile the network by torch.compile, worth it for long runs on a GPU.
        save_every: steps between two checkpoints.
        sample_every: steps between two sets of samples (.png, or .npz of what cannot be drawn); by default only at
            the end.
        keep: number of checkpoints kept.
        tensorboard: write the losses for TensorBoard as well.
        resume: go on from the newest sound checkpoint in `out`, or begin if there is none.
        init: directory of a trained model to start from: its network, process, preconditioner and transform.
        types: your own classes that the model of `init` is made of, by their import paths.
        reading: how the data are read.
    """
    for name, value in {"steps": steps, "save_every": save_every, "sample_every": sample_every}.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    if not (0 <= label_dropout <= 1 and 0 <= seed < 2**63):
        raise ValueError(
            f"wanted --label_dropout from 0 to 1 and --seed from 0 to 2^63 - 1; got {label_dropout} and {seed}"
        )
    if init and (sde or net or precond or energy or noise_scales):
        raise ValueError(
            "--init brings its network and process: leave --net, --sde, --noise_scales, --precond and --energy out"
        )
    if sde and noise_scales:
        raise ValueError("--noise_scales true chooses the process: leave --sde out")
    affine = sde is None or isinstance(sde, GaussianSDE)
    if isinstance(sde, ItoSDE):
        raise ValueError(
            "--sde ItoSDE: holds functions, which cannot be saved: write a class as examples/jacobi.py does"
        )
    if not affine and (precond or energy):
        raise ValueError(f"--precond and --energy are for Gaussian processes; got --sde {type(sde).__name__}")
    place = parse_device(device)
    checkpoints = Checkpoints(out / CHECKPOINTS, keep)
    newest = checkpoints.newest() if resume else None
    if newest is None and (checkpoints.all() or (out / "config.json").exists()):
        raise ValueError(
            f"--out {out}: holds a run already, "
            + ("but no checkpoint to go on from" if resume else "go on with it by --resume true")
            + ", or name another directory"
        )
    if Path(data).exists() and out.resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"--out {out}: lies inside of the data {data}: name a directory beside them")
    first = distributed.rank() == 0
    with directory(out), locked(out):
        source = load_data(data, reading, folder=out)
        source = source if use_labels else source.unlabelled()
        if centred and source.levels is None:
            raise ValueError(f"--centred true: is for integers; {data} holds real numbers")
        kept, held = split(source, held_out, seed)
        if init:
            base = ScoreModel.load(init, types=types, device=place)
            _check_fits(base, kept, init)
            denoiser, transform = base.denoiser, base.transform
        else:
            transform = Affine.fitted(kept) if affine else Affine(levels=kept.levels)
            if centred and sde is None and not noise_scales:
                sde = process_of_cells(kept, transform)
            if noise_scales:
                sde, why = process_of_scales(kept, transform)
                if first:
                    print(why)
            with seeded(seed):
                network = net(kept.event_shape, kept.classes) if net else usual_network(source)
            size = transformed_std(kept, transform)
            if not (affine or 0.05 < size < 20):
                warnings.warn(
                    f"the data have a standard deviation of {size:.3g}, and a process that is not Gaussian takes them "
                    "in their own units: networks want about 1",
                    stacklevel=1,
                )
            denoiser = model_of(network, sde or VP(), precond, energy, size).to(place)
        if objective is None and isinstance(denoiser.sde, GaussianSDE):
            objective = DenoisingScoreMatching.edm(transformed_std(kept, transform))
        objective = objective or PathTarget()
        if kept.classes and label_dropout and not isinstance(objective, LabelDropout):
            objective = LabelDropout(objective, label_dropout)
        state = TrainState(denoiser, optimisation, seed=seed)
        log = LossLog(out / LOSSES, out / "tensorboard" if tensorboard and first else None)
        micro = math.ceil(batch_size / max(1, accumulate * distributed.world()))
        run = _Run(
            out=out,
            state=state,
            objective=objective,
            precision=precision.value,
            checks=Batches(held, transform, min(micro, len(held)), seed=seed + 1, device=place, centred=centred),
            log=log,
            checkpoints=checkpoints,
            snapshots=Snapshots(out / SNAPSHOTS),
            fingerprint={
                "data": source.digest(),
                "rows": len(source),
                "classes": source.classes,
                "held_out": held_out,
                "centred": centred,
                "transform": describe(transform),
                "batch_size": batch_size,
                "denoiser": describe(denoiser),
                "objective": describe(objective),
                "optimisation": describe(state.optimisation),
                "precision": precision.name,
            },
            kept=kept,
            transform=transform,
            class_names=source.class_names,
            needs_label=kept.classes > 0 and label_dropout == 0,
            about={
                "data": data,
                "steps": steps,
                "batch_size": batch_size,
                "seed": seed,
                "centred": centred,
                "spectrum": transformed_spectrum(kept, transform),
            },
        )
        if newest:
            state.load(newest / STATE, run.fingerprint)
            log.load(up_to=state.step)
            run.saved = state.step
            if first:
                run.publish()  # which the end of the earlier part may have prevented
        if first:
            _say_what(data, kept, denoiser, place)
            if isinstance(denoiser.sde, GaussianSDE):
                mismatch = prior_mismatch(denoiser.sde, run.checks[0].x0)
                print(f"the data's law at T is within {mismatch:.3g} nats of the prior")
        small = source.x.numel() * source.x.element_size() if isinstance(source.x, Tensor) else math.inf
        if place.type == "cuda" and small < torch.cuda.get_device_properties(place).total_memory / 4:
            source.to(place)
        trained = training(
            state,
            Batches(kept, transform, batch_size, seed=seed, device=place, centred=centred),
            objective,
            steps=steps,
            precision=precision.value,
            accumulate=accumulate,
            compiled=compile,
        )
        bar = tqdm(initial=state.step, total=steps, unit="step", mininterval=0.5, disable=None if first else True)
        with bar, Signals() as signals:
            for info in trained:
                log.add(info)
                bar.update()
                if info.step % 50 == 0:
                    bar.set_postfix(loss=f"{log.recent():.4g}")
                    run.check()
                stop = signals.arrived()
                saves = info.step % save_every == 0 or info.step == steps or stop
                if first:
                    run.snapshots.update(state, newest=saves)  # before the checkpoint: those beyond it are replaced
                if saves:
                    if first:
                        run.save()
                    distributed.wait()
                    run.saved = info.step
                if first and sample_every and info.step % sample_every == 0:
                    run.draw(out / PICTURES / f"{info.step:09d}.png")
                if stop:
                    raise SystemExit(signals.status(f"saved at step {info.step}: go on by --resume true"))
        if first:
            run.draw(out / "samples.png")
            print(f"trained {state.step} steps; the model and its samples are in {out}")


@dataclass
class _Run:
    """What a training command has made ready, and how it is saved, checked and drawn."""

    out: Path
    state: TrainState
    objective: Objective
    precision: torch.dtype | None
    checks: Batches
    log: LossLog
    checkpoints: Checkpoints
    snapshots: Snapshots
    fingerprint: dict[str, Any]  # what a resumed run must have in common with this one
    kept: Subset
    transform: Transform
    class_names: tuple[str, ...]
    needs_label: bool
    about: dict[str, Any]
    saved: int = 0  # step of the last checkpoint

    def model(self, k: int = 0) -> ScoreModel:
        """The model with the weights' k-th average."""
        return ScoreModel(
            self.state.averaged(k),
            self.kept.event_shape,
            self.transform,
            self.kept.classes,
            {**self.about, "step": self.state.step},
            self.needs_label,
            self.class_names,
        )

    def check(self, *losses: float) -> None:
        """Stops a run that has come to nothing, before it is saved."""
        bad = [loss for loss in (self.log.recent(), *losses) if not math.isfinite(loss)]
        if bad:
            good = f"the last good checkpoint is that of step {self.saved}" if self.saved else "there is no checkpoint"
            raise ValueError(
                f"the loss is {bad[0]} by step {self.state.step}; {good}: lower --optimisation.lr, lengthen "
                "--optimisation.warmup, or look for outliers in the data"
            )

    def save(self) -> None:
        """Writes everything, the checkpoint after the losses that lead to it."""
        step, count = self.state.step, math.ceil(CHECKED / self.checks.size)
        loss = validation_loss(self.state, self.checks, self.objective, count=count, precision=self.precision)
        self.check(loss)
        self.log.validation.append((step, loss))
        tqdm.write(f"step {step}: loss {self.log.recent():.4g}, held out {loss:.4g}")
        self.log.save()  # before the checkpoint: rows beyond it are dropped when a run is resumed
        self.checkpoints.save(step, lambda folder: self.state.save(folder / STATE, self.fingerprint))
        self.publish()

    def publish(self) -> None:
        """Writes the models and the curve of the losses."""
        self.model().save(self.out)
        for k, half_life in enumerate(self.state.optimisation.half_lives[1:], start=1):
            self.model(k).save(self.out / f"half_life_{half_life:.12g}")
        save_figure(plot.loss_curve(self.log.steps, self.log.losses, self.log.validation), self.out / "loss.png")

    def draw(self, out: Path) -> None:
        """Writes samples: as a picture, or as an array if they cannot be drawn."""
        shape = self.kept.event_shape
        count = 2000 if shape == (2,) else 64
        cond = self.kept.rows(torch.arange(count) % len(self.kept)).cond
        label = cond["label"] if self.needs_label else None
        model = self.model()
        x = model.sample(seeds=range(count), label=label, cond=cond.get("cond"), batch_size=64)
        out.parent.mkdir(exist_ok=True)
        drawn = plot.is_image(shape) or shape == (2,)
        save_samples(x, model.transform.levels, out if drawn else out.with_suffix(".npz"))


def _check_fits(base: ScoreModel, kept: Subset, init: Path) -> None:
    have = kept.event_shape, kept.levels, kept.classes
    wanted = base.event_shape, base.transform.levels, base.classes
    if have[:2] != wanted[:2] or kept.classes > base.classes:
        raise ValueError(
            f"--init {init}: its data have the event shape, levels and classes {wanted}, these have {have}: train anew"
        )


def _say_what(data: str, kept: Subset, denoiser: ScoreModule, place: torch.device) -> None:
    values = "real numbers" if kept.levels is None else f"integers from 0 to {kept.levels - 1}"
    net: Any = getattr(denoiser, "net", denoiser)
    count = sum(p.numel() for p in nn.Module.parameters(net))
    print(f"{data}: {len(kept)} events of shape {kept.event_shape}, {values}, {kept.classes or 'no'} classes;")
    print(f"{type(denoiser.sde).__name__} process, {type(net).__name__} with {count:,} parameters, on {place}")
