"""`scorefield encode`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scorefield._files import write_file
from scorefield.cli.sources import Reading, check_target, directory, load_rows, parse_device
from scorefield.model import ScoreModel
from scorefield.train import distributed


def encode(
    run: Path,
    data: str,
    out: Path = Path("latents.npz"),
    use_labels: bool = False,
    limit: int | None = None,
    steps: int = 100,
    batch_size: int = 64,
    device: str = "auto",
    classes: Sequence[type] = (),
    reading: Reading = Reading(),
) -> None:
    """Computes the latents of data by the probability-flow ODE.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a path, see `scorefield train --help`.
        out: .npz file that gets the array `latents`, a row for each sample.
        use_labels: encode under the data's labels.
        limit: take the first so many samples alone.
        steps: of the ODE solver, 4 network calls each.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        classes: your own classes that the model is made of, by their import paths.
        reading: how the data are read.
    """
    model = ScoreModel.load(run, classes=classes, device=parse_device(device))
    rows = load_rows(model, data, reading, use_labels, limit)
    check_target(out, ".npz")
    if batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1; got {batch_size}")
    with directory(out.parent):
        parts: list[Tensor] = []
        mine, quiet = distributed.mine(torch.arange(len(rows.x))), None if distributed.rank() == 0 else True
        for part in tqdm(mine.split(batch_size), unit="batch", disable=quiet):
            cond = {name: value[part] for name, value in rows.cond.items()}
            parts.append(model.encode(rows.x[part], seeds=part, steps=steps, **cond).cpu())
        every = distributed.gathered(torch.cat(parts))
        if every is None:
            return
        latents = torch.cat(every).numpy()
        write_file(out, lambda file: np.savez(file, latents=latents))
    print(f"wrote the latents of {len(latents)} samples to {out}; their standard deviation is {latents.std():.4f}")
