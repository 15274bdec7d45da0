"""`scorefield evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from scorefield.cli.featuring import classifier_of, named_extractor
from scorefield.cli.sources import Reading, directory, for_model, load_data, locked, parse_device, typed
from scorefield.data import split
from scorefield.evaluate import Effort, LabelFeatures, Ledger, Sets, write_report
from scorefield.evaluate import evaluate as measured
from scorefield.metrics import Pixels
from scorefield.model import ScoreModel
from scorefield.plot import is_image
from scorefield.solvers import Solver
from scorefield.train import distributed

WORK, EXTRACTOR = "unfinished", "extractor.safetensors"


def evaluate(
    run: Path,
    data: str,
    out: Path,
    test: str | None = None,
    extractor: nn.Module | Path | None = None,
    inception_weights: Path | None = None,
    effort: Effort = Effort(),
    solver: Solver | None = None,
    device: str = "auto",
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Measures a trained model and writes a report: distances of its samples from the data, likelihoods, pictures.

    The directory gets report.html, a page in one file, report.md with figures/, report.json, and the classifier, if one
    is trained for its features (extractor.safetensors). The work in hand is kept in unfinished/: the same command goes
    on after a kill, and processes that torchrun starts share it, with equal results.

    Args:
        run: directory of a trained model.
        data: what the model was trained on, a name (digits, two_moons, ...) or a path, see `scorefield train --help`.
        out: directory of the report.
        test: data that the model has not seen; by default what its training held out of `data`.
        extractor: features in which samples are compared: Pixels, a class of yours by its import path (a module that
            takes samples in the data's units, or a scorefield.metrics.FeatureExtractor), the extractor.safetensors of
            another report, or a TorchScript file, which is a program: take it from people whom you trust. By default
            those of a small classifier that is trained on the data's labels, without labels the samples' own numbers.
        inception_weights: the published weights-inception-2015-12-05-6726825d.pth, whose features make the distance of
            pictures the FID.
        effort: how much is computed.
        solver: of the samples, a class of scorefield.solvers, instead of the default one.
        device: auto, cpu, cuda, cuda:1, ...
        types: your own classes that the model is made of, by their import paths.
        reading: how the data are read.
    """
    place = parse_device(device)
    model = ScoreModel.load(run, types=types, device=place)
    source = for_model(model, load_data(data, reading), data)
    digest = source.digest()[:16]
    about: dict[str, Any] = {"name": source.name, "digest": digest}
    if test is None:
        if (share := model.about.get("held_out")) is None:
            raise ValueError("this model does not say what was held out of its training: give data of --test")
        if model.about.get("data_digest", digest) != digest:
            raise ValueError(f"--data {data}: is not what the model was trained on: give that, or other data of --test")
        seed = int(model.about.get("seed", 0))
        train, held_out = split(source, float(share), seed)
        about |= {"held out": share, "seed of the split": seed}
    else:
        train, held_out = source, for_model(model, load_data(test, reading), test)
        if source.classes and not held_out.classes:
            raise ValueError(f"--test {test}: has no labels, but --data has: wanted data of the same kind")
        about |= {"test": held_out.name, "test digest": held_out.digest()[:16]}
    with directory(out), locked(out):
        ledger = Ledger(out / WORK, progress=distributed.rank() == 0)
        made, reference = named_extractor(extractor, inception_weights, train.levels), train
        if made is None and is_image(train.event_shape) and not distributed.rank():
            usual = "a classifier of the labels" if train.classes > 1 else "the samples' own numbers"
            print(f"features: {usual}; with --inception_weights, the published file, distances would be the FID")
        if train.classes > 1 and (made is None or isinstance(made, LabelFeatures)):
            fitted, reference = split(train, 0.5, effort.seed)  # a classifier knows the rows that it was fitted on
            made = made or classifier_of(fitted, held_out, effort.seed, ledger.folder / EXTRACTOR, about, place)
        made = (made or Pixels()).to(place)
        found = measured(model, Sets(train, held_out, reference, about), made, effort, ledger, solver)
        if found is not None:
            write_report(found, shlex.join(["scorefield", *typed.get()]), str(place), out)
            if isinstance(made, LabelFeatures):
                made.save(out / EXTRACTOR)
        ledger.close()
    if found is not None:
        for name, of in found.numbers["metrics"].items():
            print(f"{name:24} {of['samples']['value']:<12.4g} held-out data {of['held out']['value']:.4g}")
        print(f"wrote {out / 'report.html'}")
