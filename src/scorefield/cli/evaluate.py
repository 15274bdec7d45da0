"""`scorefield evaluate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from scorefield.cli.featuring import extractor_of
from scorefield.cli.sources import Reading, check_fits, directory, load_data, locked, parse_device
from scorefield.data import split
from scorefield.evaluate import Effort, LabelFeatures, Ledger, Sets, write_report
from scorefield.evaluate import evaluate as measured
from scorefield.model import ScoreModel
from scorefield.solvers import Solver
from scorefield.train import distributed

WORK, EXTRACTOR = "work", "extractor.safetensors"


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
    is trained for its features (extractor.safetensors). The work in hand is kept in work/: the same command goes on
    after a kill, and processes that torchrun starts share it, with equal results.

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
    source = load_data(data, reading)
    check_fits(model, source, data)
    if test is None:
        if (share := model.about.get("held_out")) is None:
            raise ValueError("this model does not say what was held out of its training: give data of --test")
        train, held_out = split(source, float(share), int(model.about.get("seed", 0)))
        about = {"name": source.name, "digest": source.digest()[:16], "held out": share}
    else:
        other = load_data(test, reading)
        check_fits(model, other, test)
        train, held_out = source, other
        about = {"name": source.name, "digest": source.digest()[:16], "test": other.name}
        about |= {"test digest": other.digest()[:16]}
    with directory(out), locked(out):
        ledger = Ledger(out / WORK, progress=distributed.rank() == 0)
        sets = Sets(train, held_out, about)
        made = extractor_of(sets, extractor, inception_weights, effort.seed, out / WORK, place)
        found = measured(model, sets, made, effort, ledger, solver)
        if found is not None:
            command = shlex.join(["scorefield", *sys.argv[1:]])
            write_report(found, command, out)
            if isinstance(made, LabelFeatures):
                made.save(out / EXTRACTOR)
        ledger.close()
    if found is not None:
        for name, of in found.numbers["metrics"].items():
            print(f"{name:24} {of['samples']['value']:<12.4g} held-out data {of['held out']['value']:.4g}")
        print(f"wrote {out / 'report.html'}")
