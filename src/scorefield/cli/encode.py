"""`scorefield encode`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scorefield._files import write_file
from scorefield.cli.parts.reading import Reading
from scorefield.cli.parts.sources import check_target, directory, load_rows, parse_device
from scorefield.model import ScoreModel
from scorefield.training import distributed


def encode(
    run: Path,
    data: str,
    out: Path = Path("latents.npz"),
    use_labels: bool = False,
    limit: int | None = None,
    steps: int = 80,
    tolerance: float | None = None,
    batch_size: int = 64,
    device: str = "auto",
    types: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Computes the latents of data by the probability-flow ODE.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a path, see `scorefield train --help`.
        out: .npz file that gets the array `latents`, a row for each sample.
        use_labels: encode under the data's labels, as always for a model that was trained with labels alone.
        limit: take the first so many samples alone.
        steps: of the ODE solver, 6 network calls each.
        tolerance: of an adaptive ODE solver, instead of steps.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        types: your own classes that the model is made of, by their import paths.
        reading: how the data are read, by default as in training.
    """
    model = ScoreModel.load(run, types=types, device=parse_device(device))
    rows = load_rows(model, data, reading, use_labels, limit)
    check_target(out, ".npz")
    with directory(out.parent):
        keys = torch.arange(len(rows.x))
        latents = model.encode(
            distributed.mine(rows.x),
            seeds=distributed.mine(keys),
            steps=steps,
            tolerance=tolerance,
            batch_size=batch_size,
            progress=distributed.rank() == 0,
            **{name: distributed.mine(value) for name, value in rows.cond.items()},
        )
        every = distributed.gathered(latents.cpu())
        if every is None:
            return
        latents = torch.cat(every)
        write_file(out, lambda file: np.savez(file, latents=latents.numpy()))
    print(f"wrote the latents of {len(latents)} samples to {out}; their standard deviation is {latents.std():.4f}")
