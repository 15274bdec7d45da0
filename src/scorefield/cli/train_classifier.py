"""`scorefield train-classifier`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from scorefield import grids
from scorefield._describe import describe
from scorefield._files import write_text
from scorefield.cli.parts.building import usual_classifier
from scorefield.cli.parts.losses import LossLog
from scorefield.cli.parts.reading import Reading, as_own, remembered
from scorefield.cli.parts.running import (
    FILES,
    FOLDERS,
    LOSSES,
    Run,
    check_at_least,
    check_learnable,
    in_proportion,
    keep_near,
    say_what,
    take,
    unseen_by,
)
from scorefield.cli.parts.sources import directory, load_data, locked, parse_device
from scorefield.data import ArrayDataset, split, transformed_std
from scorefield.model import ClassifierModel, ScoreModel
from scorefield.model.stored import CONFIG, read_about
from scorefield.nn import ClassifierNetwork, seeded
from scorefield.objectives import CrossEntropy, Judged, judged
from scorefield.processes import GaussianSDE
from scorefield.score import NoisyClassifier
from scorefield.training import Batch, Batches, Optimisation, TrainState, distributed

REPORT = "noise_levels.csv"
LEVELS = 8  # of noise, in the report


def train_classifier(
    run: Path,
    data: str,
    out: Path,
    net: Callable[[Sequence[int], int], ClassifierNetwork] | None = None,
    optimisation: Optimisation | None = None,
    steps: int = 2000,
    batch_size: int = 128,
    held_out: float = 0.1,
    seed: int = 0,
    device: str = "auto",
    save_every: int = 1000,
    validation: int | None = None,
    resume: bool = False,
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Trains a classifier of noisy data, which guides a trained score model to a class that is asked for.

    The directory gets the classifier with averaged weights (config.json, model.safetensors), the losses (loss.csv,
    loss.png), the newest checkpoints, and how good it is at each noise level on held-out data (noise_levels.csv): a
    classifier guides well where its confidence is its accuracy. Use it by `scorefield sample RUN --classifier OUT
    --label 3 --guidance 2`.

    Args:
        run: directory of the score model that is to be guided; the classifier gets its process and transform.
        data: a name (digits, two_moons, ...) or a path, see `scorefield train --help`; with labels.
        out: directory of the classifier.
        net: the network: by default a UNetClassifier for signals, images and volumes with sides of 16 and more, else an
            MLPClassifier.
        optimisation: learning rate, averaging and the like.
        steps: of training; a finished run is lengthened by more of them and --resume true.
        batch_size: samples in a step, of all processes together.
        held_out: share of the data kept for the validation loss and the report; with the seed of the score model the
            same rows as its own.
        seed: of the split, the initial weights and the training noise.
        device: auto, cpu, cuda, cuda:1, ...
        save_every: steps between two checkpoints.
        validation: held-out samples in each validation loss and in the report, made full batches; by default 1024, but
            at most an eighth of those trained on between two checkpoints.
        resume: go on from the newest sound checkpoint in `out`, or begin if there is none.
        types: your own classes that the score model is made of, by their import paths.
        reading: how the data are read, by default as those of the score model.
    """
    check_at_least(1, steps=steps, save_every=save_every, validation=validation)
    if not 0 <= seed < 2**63:
        raise ValueError(f"wanted --seed from 0 to 2^63 - 1; got {seed}")
    place = parse_device(device)
    first, base = distributed.rank() == 0, ScoreModel.load(run, types=types)
    sde, transform = base.denoiser.sde, base.transform
    if not isinstance(sde, GaussianSDE):
        raise ValueError(f"{run}: guidance by a classifier is for Gaussian processes; got {type(sde).__name__}")
    with directory(out, (*FILES, REPORT), FOLDERS), locked(out):
        checkpoints, newest = take(out, data, resume)
        how = as_own(reading, read_about(out) if newest and (out / CONFIG).exists() else base.about, data)
        loaded = load_data(data, how, folder=out)
        source = loaded.renumbered(base.class_names)
        _check_fits(base, source, run, data)
        kept, held = split(source, held_out, seed)
        if not len(held):
            raise ValueError(
                f"--held_out {held_out} of {len(source)}: a classifier is judged by held-out samples, at least one"
            )
        check_learnable(source, kept)
        with seeded(seed):
            network = net(kept.event_shape, kept.classes) if net else usual_classifier(source)
        classifier = NoisyClassifier(network, sde, transformed_std(kept, transform)).to(place)
        state, objective = TrainState(classifier, optimisation, seed=seed), CrossEntropy()
        centred = bool(base.about.get("centred", False))
        about: dict[str, Any] = {"data": data, "found": str(loaded.found), "steps": steps}
        about |= {"batch_size": batch_size, "seed": seed}
        more = {"reading": remembered(how, loaded), "unseen": unseen_by(kept, source.class_names)}
        about |= {name: value for name, value in more.items() if value}

        def model(k: int = 0) -> ClassifierModel:
            return ClassifierModel(
                state.averaged(k),
                kept.event_shape,
                kept.classes,
                transform,
                {**about, "step": state.step},
                source.class_names,
            )

        count, size_of_checks = in_proportion(validation, batch_size, min(steps, save_every))
        trained = Run(
            out=out,
            state=state,
            objective=objective,
            checks=Batches(held, transform, size_of_checks, seed=seed + 1, device=place, centred=centred),
            count=count,
            log=LossLog(out / LOSSES),
            checkpoints=checkpoints,
            fingerprint={
                "data": source.digest(),
                "rows": len(source),
                "classes": source.classes,
                "held_out": held_out,
                "centred": centred,
                "transform": describe(transform),
                "batch_size": batch_size,
                "classifier": describe(classifier),
                "objective": describe(objective),
                "optimisation": describe(state.optimisation),
            },
            model=model,
        )
        if newest:
            trained.resume(newest)
        if first:
            say_what(data, kept, sde, classifier, place)
        keep_near(source, place)
        batches = Batches(kept, transform, batch_size, seed=seed, device=place, centred=centred)
        for _ in trained.steps(batches, until=steps, save_every=save_every):
            pass
        if first:
            _report(model(), trained.held_out(), out / REPORT)
            print(f"trained {state.step} steps; the classifier is in {out}")


def _check_fits(base: ScoreModel, source: ArrayDataset, run: Path, data: str) -> None:
    if source.classes < 2:
        raise ValueError(f"--data {data}: a classifier is trained on labels of 2 classes or more; got {source.classes}")
    have, wanted = (source.event_shape, source.levels), (base.event_shape, base.transform.levels)
    if have != wanted:
        raise ValueError(f"{run}: is of data of the event shape and levels {wanted}; {data} has {have}")
    theirs, own = (base.classes, base.class_names), (source.classes, source.class_names)
    if base.classes and theirs != own:
        raise ValueError(f"{run}: its number of classes and their names are {theirs}; those of {data} are {own}")


def _report(model: ClassifierModel, held: Iterator[Batch], out: Path) -> None:
    """Prints and writes what the classifier is worth at noise levels from the data to T."""
    classifier, sde, batches = model.classifier, model.classifier.sde, list(held)
    knots = sde.knots(grids.uniform_log_snr(sde, LEVELS)[-2::-1])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("sigma/alpha", "accuracy", *Judged._fields[1:]))
    print(f"on {sum(len(b.x0) for b in batches)} noisy samples of held-out data:")
    print(f"sigma/alpha  accuracy  confidence  cross-entropy (a guess: {math.log(model.classes):.3f})")
    for knot in knots:
        found = [judged(classifier, b.x0, b.cond["label"], knot.time, noise=b.noise) for b in batches]
        means = [float(torch.cat(values).cpu().double().mean()) for values in zip(*found, strict=True)]
        writer.writerow((knot.sigma / knot.alpha, *means))
        print(f"{knot.sigma / knot.alpha:11.4g}  {means[0]:8.3f}  {means[1]:10.3f}  {means[2]:13.3f}")
    write_text(out, table.getvalue())
