"""`scorefield likelihood`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from scorefield._files import write_text
from scorefield.cli.sources import check_target, directory, load_rows, parse_device
from scorefield.likelihood import Hutchinson
from scorefield.model import ScoreModel


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
    classes: Sequence[type] = (),
) -> None:
    """Computes the exact likelihood of data under a trained model's probability-flow ODE.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a .npy or .npz file.
        out: CSV file with a row for each sample: nats, their standard error over the probes, and bits/dim.
        use_labels: log p(x | label) with the data's labels, instead of log p(x).
        limit: take the first so many samples alone.
        steps: of the ODE solver, 4 network calls each.
        probes: random probes of the divergence; by default the exact trace up to 64 dimensions, else 8.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        classes: your own classes that the model is made of, by their import paths.
    """
    model = ScoreModel.load(run, classes=classes, device=parse_device(device))
    rows = load_rows(model, data, use_labels, limit)
    check_target(out, ".csv")
    with directory(out.parent):
        result = model.log_prob(
            rows.x,
            steps=steps,
            divergence=None if probes is None else Hutchinson(probes),
            batch_size=batch_size,
            progress=True,
            **rows.cond,
        )
        columns = {"nats": result.nats, "stderr": result.stderr}
        if result.bits_per_dim is not None:
            columns["bits_per_dim"] = result.bits_per_dim
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("index", *columns))
        for k, values in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
            writer.writerow((k, *values))
        write_text(out, table.getvalue())
    print(f"nats {mean_and_error(result.nats)}")
    if result.bits_per_dim is not None:
        print(f"bits/dim {mean_and_error(result.bits_per_dim)}")
    print(f"{len(rows.x)} samples, {result.nfe} network calls each; wrote {out}")


def mean_and_error(values: Tensor) -> str:
    """The mean over samples and its standard error."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{float(values.mean()):.4f} +- {error:.4f}"
