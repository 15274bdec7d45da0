"""`scorefield evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scorefield.cli.parts.featuring import FileOfFeatures, classifier_of, named_extractor, unseen
from scorefield.cli.parts.reading import Reading, as_own
from scorefield.cli.parts.sources import directory, for_model, load_data, locked, parse_device, typed
from scorefield.data import Subset, split
from scorefield.evaluate import FIGURES, REPORTS, Effort, LabelFeatures, Ledger, Sets, check_enough, write_report
from scorefield.evaluate import evaluate as measured
from scorefield.metrics import Pixels
from scorefield.model import ScoreModel
from scorefield.plot import is_image
from scorefield.solvers import Solver
from scorefield.training import distributed

WORK, EXTRACTOR = "unfinished", "extractor.safetensors"


def evaluate(
    run: Path,
    data: str,
    out: Path,
    test: str | None = None,
    extractor: FileOfFeatures | nn.Module | Path | None = None,
    inception_weights: Path | None = None,
    effort: Effort = Effort(),
    solver: Solver | None = None,
    device: str = "auto",
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Measures a trained model and writes a report: distances of its samples from the data, likelihoods, pictures.

    The directory gets report.html, a page in one file, report.md with figures/, report.json, and extractor.safetensors,
    the classifier, if the features are one's. The work in hand is kept in unfinished/: the same command goes on after a
    kill, and processes that torchrun starts share it, with equal results for the same features.

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
        reading: how the data are read, by default as in training.
    """
    place = parse_device(device)
    model = ScoreModel.load(run, types=types, device=place)
    source = for_model(model, load_data(data, as_own(reading, model.about, data)), data)
    digest = source.digest()[:16]
    about: dict[str, Any] = {"name": source.name, "digest": digest}
    share, seed = model.about.get("held_out"), int(model.about.get("seed", 0))
    known = model.about.get("data_digest", digest) == digest
    if test is None and share is None:
        raise ValueError("this model does not say what was held out of its training: give data of --test")
    if test is None and not known:
        raise ValueError(f"--data {data}: is not what the model was trained on: give that, or other data of --test")
    train, held_out = Subset(source, torch.arange(len(source))), None
    if share is not None and known:
        train, held_out = split(source, float(share), seed)
        about |= {"held out": share, "seed of the split": seed}
    if test is None and not held_out:
        raise ValueError("no sample was held out of the training of this model: give data of --test")
    if test is not None:
        other = load_data(test, as_own(reading, model.about, test), option="--test")
        other = for_model(model, other, test, "--test")
        other = other.renumbered(source.class_names)
        if (source.classes > 0) != (other.classes > 0) or other.classes > source.classes:
            raise ValueError(
                f"--test {test}: has {other.classes} classes, --data {data} has {source.classes}: give data of one kind"
            )
        about |= {"test": other.name, "test digest": other.digest()[:16]}
        held_out = Subset(other, torch.arange(len(other)))
    assert held_out is not None
    check_enough(len(train), len(held_out))
    with directory(out, (*REPORTS, EXTRACTOR), (FIGURES, WORK)), locked(out):
        made = named_extractor(extractor, inception_weights, source.levels)
        if made is None and is_image(source.event_shape) and not distributed.rank():
            usual = "a classifier of the labels" if source.classes > 1 else "the samples' own numbers"
            print(f"features: {usual}; with --inception_weights, the published file, distances would be the FID")
        ledger = Ledger(out / WORK, progress=distributed.rank() == 0)
        if made is None and source.classes > 1:
            made = classifier_of(train, held_out, effort.seed, ledger, about, place)
        made = (made or Pixels()).to(place)
        reference = unseen(train, made, digest)
        held_out = unseen(held_out, made, about.get("test digest", digest))
        sets = Sets(train, held_out, reference, about)
        found = measured(model, sets, made, effort, ledger, solver)
        if found is not None:
            write_report(found, shlex.join(["scorefield", *typed.get()]), str(place), out)
            if isinstance(made, LabelFeatures):
                made.save(out / EXTRACTOR)
        ledger.close()
    if found is not None:
        for name, of in found.numbers["metrics"].items():
            print(f"{name:24} {of['samples']['value']:<12.4g} held-out data {of['held out']['value']:.4g}")
        print(f"wrote {out / 'report.html'}")
