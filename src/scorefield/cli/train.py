"""`scorefield train`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from scorefield import plot
from scorefield._describe import describe
from scorefield._finite import Diverged
from scorefield.cli.parts.building import model_of, process_of_cells, process_of_scales, usual_network
from scorefield.cli.parts.losses import LossLog
from scorefield.cli.parts.reading import Reading, as_own, remembered
from scorefield.cli.parts.running import (
    BOARD,
    FILES,
    FOLDERS,
    LOSSES,
    PICTURES,
    Run,
    check_at_least,
    in_proportion,
    keep_near,
    say_what,
    take,
    unseen_by,
)
from scorefield.cli.parts.signals import Signals
from scorefield.cli.parts.sources import (
    Precision,
    directory,
    load_data,
    locked,
    parse_device,
    save_samples,
)
from scorefield.cli.parts.tuning import check_fits, extend, renumbered
from scorefield.data import Affine, Subset, split, transformed_spectrum, transformed_std
from scorefield.likelihood import prior_mismatch
from scorefield.model import ScoreModel
from scorefield.model.stored import CONFIG, read_about
from scorefield.nn import Network, seeded
from scorefield.objectives import DenoisingScoreMatching, LabelDropout, Objective, PathTarget
from scorefield.processes import SDE, VP, GaussianSDE, ItoSDE
from scorefield.score import Precond
from scorefield.training import Batches, Optimisation, TrainState, distributed


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
    centred: bool | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = Precision.float32,
    compile: bool = False,
    save_every: int = 1000,
    sample_every: int | None = None,
    validation: int | None = None,
    previews: int | None = None,
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
            that ends at noise of 0.4 cells, beyond which there is nothing but the cells to learn; by default as the
            model of init was, else not.
        held_out: share of the data kept for the validation loss.
        seed: of the split, the initial weights and the training noise.
        device: auto, cpu, cuda, cuda:1, ...
        precision: float32 or bfloat16.
        compile: compile the network by torch.compile, worth it for long runs on a GPU.
        save_every: steps between two checkpoints.
        sample_every: steps between two sets of samples (.png, or .npz of what cannot be drawn); by default only at
            the end.
        validation: held-out samples in each validation loss, made full batches, 0 for none; by default 1024, but at
            most an eighth of those trained on between two checkpoints.
        previews: samples drawn, 0 for none; by default 64, of points in a plane 2000, but at most one for 20 that the
            run has trained on.
        keep: number of checkpoints kept.
        tensorboard: write the losses for TensorBoard as well.
        resume: go on from the newest sound checkpoint in `out`, or begin if there is none.
        init: directory of a trained model to start from: its network, process, preconditioner and units. Classes are
            those of the same name; new ones begin as any class.
        types: your own classes that the model of `init` is made of, by their import paths.
        reading: how the data are read.
    """
    check_at_least(1, steps=steps, save_every=save_every, sample_every=sample_every)
    check_at_least(0, validation=validation, previews=previews)
    if not (0 <= label_dropout <= 1 and 0 <= seed < 2**63):
        raise ValueError(
            f"wanted --label_dropout from 0 to 1 and --seed from 0 to 2^63 - 1; got {label_dropout} and {seed}"
        )
    own = {"--net": net, "--sde": sde, "--noise_scales": noise_scales, "--precond": precond, "--energy": energy}
    if init and (given := [name for name, value in own.items() if value]):
        raise ValueError(f"--init brings its network and process: leave {', '.join(given)} out")
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
    first = distributed.rank() == 0
    with directory(out, (*FILES, "samples.png"), FOLDERS), locked(out):
        checkpoints, newest = take(out, data, resume, keep)
        base = ScoreModel.load(init, types=types, device=place) if init else None
        before = read_about(out) if newest and (out / CONFIG).exists() else base.about if base else {}
        how = as_own(reading, before, data)
        loaded = load_data(data, how, folder=out)
        if base and init and use_labels:
            loaded = renumbered(base, loaded, init)
        source = loaded if use_labels else loaded.unlabelled()
        centred = bool(base and base.about.get("centred")) if centred is None else centred
        if centred and source.levels is None:
            raise ValueError(f"--centred true: is for integers; {data} holds real numbers")
        kept, held = split(source, held_out, seed)
        names, learnt = source.class_names, set[int]()
        if base and init:
            check_fits(base, kept, init)
            denoiser, transform, cond_transform = base.denoiser, base.transform, base.cond_transform
            names, learnt = names or base.class_names, set(range(base.classes)) - set(base.about.get("unseen", ()))
            if kept.classes > base.classes:
                extend(denoiser, kept.classes)
                if first:
                    print(f"classes that are new to the model of {init}: {', '.join(names[base.classes :])}")
        else:
            cond_transform = Affine.of_conditions(kept)
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
        count, size_of_checks = in_proportion(validation, batch_size, min(steps, save_every))
        about = {
            "data": data,
            "found": str(loaded.found),
            "steps": steps,
            "batch_size": batch_size,
            "seed": seed,
            "held_out": held_out,
            "average": f"half-life {state.optimisation.half_lives[0]:g} samples",
            "centred": centred,
            "data_digest": loaded.digest()[:16],
            "spectrum": transformed_spectrum(kept, transform),
        }
        more = {"reading": remembered(how, loaded), "unseen": unseen_by(kept, names, learnt)}
        about |= {name: value for name, value in more.items() if value}
        needs_label = kept.classes > 0 and label_dropout == 0

        def model(k: int = 0) -> ScoreModel:
            return ScoreModel(
                state.averaged(k),
                kept.event_shape,
                transform,
                kept.classes,
                {**about, "step": state.step},
                needs_label,
                names if kept.classes else (),
                cond_transform,
            )

        batches_of = partial(Batches, transform=transform, device=place, centred=centred, cond_transform=cond_transform)
        run = Run(
            out=out,
            state=state,
            objective=objective,
            checks=batches_of(held, size=size_of_checks, seed=seed + 1),
            count=count,
            log=LossLog(out / LOSSES, out / BOARD if tensorboard and first else None),
            checkpoints=checkpoints,
            fingerprint={
                "data": source.digest(),
                "rows": len(source),
                "classes": source.classes,
                "held_out": held_out,
                "centred": centred,
                "transform": describe(transform),
                "cond_transform": describe(cond_transform),
                "batch_size": batch_size,
                "denoiser": describe(denoiser),
                "objective": describe(objective),
                "optimisation": describe(state.optimisation),
                "precision": precision.name,
            },
            model=model,
            precision=precision.value,
            accumulate=accumulate,
        )
        if newest:
            run.resume(newest)
        if first:
            say_what(data, kept, denoiser.sde, denoiser, place)
            if isinstance(denoiser.sde, GaussianSDE):
                mismatch = prior_mismatch(denoiser.sde, run.checks[0].x0)
                print(f"the data's law at T is within {mismatch:.3g} nats of the prior")
        keep_near(source, place)
        batches = batches_of(kept, size=batch_size, seed=seed)

        def draw(out: Path) -> bool:
            most = 2000 if kept.event_shape == (2,) else 64
            wanted = min(most, state.step * batch_size // 20) if previews is None else previews
            micro = math.ceil(batch_size / (accumulate * distributed.world()))
            return wanted > 0 and _draw(model(), kept, out, wanted, micro, run.signals)

        for info in run.steps(batches, until=steps, save_every=save_every, compiled=compile):
            if first and sample_every and info.step % sample_every == 0:
                draw(out / PICTURES / f"{info.step:09d}.png")
        if first:
            with run.signals:
                drawn = draw(out / "samples.png")
            print(f"trained {state.step} steps; the model {'and its samples are' if drawn else 'is'} in {out}")
            if run.signals.noted:
                raise SystemExit(run.signals.status("the model is saved, its samples are not drawn"))


def _draw(model: ScoreModel, kept: Subset, out: Path, count: int, batch_size: int, signals: Signals) -> bool:
    """Writes samples, as a picture or an array, unless a signal comes in between or they are not finite."""
    parts: list[Tensor] = []
    for keys in torch.arange(count).split(batch_size):
        cond = kept.rows(keys % len(kept)).cond
        label = cond["label"] if model.needs_label else None
        try:
            parts.append(model.sample(seeds=keys, label=label, cond=cond.get("cond")))
        except Diverged as error:  # the training goes on, and may mend it
            warnings.warn(f"{out} is not drawn: {error}", stacklevel=1)
            return False
        if signals.noted:
            return False
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = plot.is_image(model.event_shape, alpha=True) or model.event_shape == (2,)
    save_samples(torch.cat(parts), model.transform.levels, out if drawn else out.with_suffix(".npz"))
    return True
