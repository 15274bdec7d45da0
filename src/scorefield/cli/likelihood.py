"""`scorefield likelihood`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield._files import write_text
from scorefield.cli.sources import Reading, check_target, directory, load_rows, parse_device
from scorefield.likelihood import Hutchinson
from scorefield.model import ScoreModel
from scorefield.train import distributed


def likelihood(
    run: Path,
    data: str,
    out: Path = Path("likelihood.csv"),
    use_labels: bool = False,
    limit: int | None = None,
    steps: int = 50,
    probes: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Computes the likelihood of data under a trained model's probability-flow ODE; a lower bound for integers.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a path, see `scorefield train --help`.
        out: CSV file with a row for each sample: nats, their standard error over the probes, and bits/dim.
        use_labels: log p(x | label) with the data's labels, instead of log p(x).
        limit: take the first so many samples alone.
        steps: of the ODE solver, 4 network calls each.
        probes: random probes of the divergence; by default the exact trace up to 64 dimensions, else 8.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        types: your own classes that the model is made of, by their import paths.
        reading: how the data are read.
    """
    model = ScoreModel.load(run, types=types, device=parse_device(device))
    rows = load_rows(model, data, reading, use_labels, limit)
    check_target(out, ".csv")
    with directory(out.parent):
        result = model.log_prob(
            distributed.mine(rows.x),
            seeds=distributed.mine(torch.arange(len(rows.x))),
            steps=steps,
            divergence=None if probes is None else Hutchinson(probes),
            batch_size=batch_size,
            progress=distributed.rank() == 0,
            **{name: distributed.mine(value) for name, value in rows.cond.items()},
        )
        columns = {"nats": result.nats, "stderr": result.stderr}
        if result.bits_per_dim is not None:
            columns["bits_per_dim"] = result.bits_per_dim
        parts = distributed.gathered({name: column.cpu() for name, column in columns.items()})
        if parts is None:
            return
        columns = {name: torch.cat([part[name] for part in parts]) for name in columns}
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("index", *columns))
        for k, values in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
            writer.writerow((k, *values))
        write_text(out, table.getvalue())
    print(f"nats {mean_and_error(columns['nats'])}")
    if "bits_per_dim" in columns:
        print(f"bits/dim {mean_and_error(columns['bits_per_dim'])}")
    print(f"{len(rows.x)} samples, {result.nfe} network calls each; wrote {out}")


def mean_and_error(values: Tensor) -> str:
    """The mean over samples and its standard error."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{float(values.mean()):.4f} +- {error:.4f}"
