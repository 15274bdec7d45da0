"""`scorefield stats`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from scorefield._files import write_file
from scorefield.cli.parts.featuring import FileOfFeatures, named_extractor
from scorefield.cli.parts.reading import Reading
from scorefield.cli.parts.running import check_at_least
from scorefield.cli.parts.sources import NAMED, check_target, directory, load_data, parse_device
from scorefield.evaluate import compare
from scorefield.metrics import FeatureStats, Pixels, expected_frechet, extract, frechet_distance
from scorefield.training import distributed


def stats(
    data: str | Sequence[str],
    out: Path | None = None,
    against: Path | None = None,
    extractor: FileOfFeatures | nn.Module | Path | None = None,
    inception_weights: Path | None = None,
    keep: bool = False,
    limit: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    reading: Reading = Reading(),
) -> None:
    """Computes, joins and compares statistics of features: number, mean and covariance.

    Args:
        data: one, or several such as [a.npz,b.npz], which are taken together: names (digits, ...), paths of data (see
            `scorefield train --help`) or statistics that this command wrote. torchrun's processes share the rows.
        out: .npz file of the statistics.
        against: file of statistics to compare with, of this command, or the mu and sigma of other projects.
        extractor: Pixels (the default), a class of yours by its import path, the extractor.safetensors of a report, or
            a TorchScript file, which is a program: take it from people whom you trust.
        inception_weights: the published weights-inception-2015-12-05-6726825d.pth, with which distances are the FID.
        keep: keep the features as well: two sets with them are compared by every metric.
        limit: take only the first so many samples of each data set.
        batch_size: samples in one call of the extractor.
        device: auto, cpu, cuda, cuda:1, ...
        reading: how the data are read.
    """
    check_at_least(1, limit=limit, batch_size=batch_size)
    place = parse_device(device)
    if out is not None:
        check_target(out, ".npz")
    if out is None and against is None:
        raise ValueError("give --out, a file for the statistics, or --against, statistics to compare with")
    reference = None if against is None else FeatureStats.read(against)
    parts: list[FeatureStats] = []
    with nullcontext() if out is None else directory(out.parent):
        for source in [data] if isinstance(data, str) else data:
            if source not in NAMED and FeatureStats.holds(source):
                parts.append(FeatureStats.read(source))
                continue
            rows = load_data(source, reading, limit)
            made = (named_extractor(extractor, inception_weights, rows.levels) or Pixels()).to(place)
            own = distributed.mine(torch.arange(len(rows) if limit is None else min(limit, len(rows))))
            features = extract(made, rows.rows(own).x, batch_size)
            shares = distributed.gathered(FeatureStats.of(features, made.label, keep))
            parts += shares or []
        if distributed.rank():
            return
        if not parts:
            raise ValueError("--data: wanted at least one set of data or statistics")
        found = sum(parts[1:], start=parts[0])
        print(f"{found.n} samples, {len(found.mean)} features of {found.extractor or 'an extractor without a name'}")
        if out is not None:
            write_file(out, found.write)
            print(f"wrote {out}")
    if reference is not None:
        print(f"Frechet distance {frechet_distance(reference, found):.6g}")
        if reference.n and found.n:
            chance = expected_frechet(reference, reference.n, found.n)
            few = " (up to 4 times as much with fewer samples than features)" if reference.n <= len(found.mean) else ""
            print(f"of as many samples of one normal law {chance:.6g}{few}")
        if reference.features is not None and found.features is not None:
            for name, number in compare(reference.features, found.features).items():
                if name != "FD":
                    print(f"{name} {number.value:.6g}" + (f" +- {number.error:.2g}" if number.error else ""))
