"""`scorefield encode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scorefield._files import write_file
from scorefield.cli.sources import check_target, load_data, parse_device
from scorefield.model import ScoreModel


def encode(
    run: Path, data: str, out: Path = Path("latents.npz"), steps: int = 50, batch_size: int = 64, device: str = "auto"
) -> None:
    """Computes the latents of data by the probability-flow ODE.

    Args:
        run: directory of a trained model.
        data: a name (digits, two_moons, ...) or a .npy or .npz file.
        out: .npz file that gets the array `latents`, a row for each sample.
        steps: of the ODE solver, 4 network calls each.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
    """
    model, source = ScoreModel.load(run, device=parse_device(device)), load_data(data)
    check_target(out, ".npz")
    if batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1; got {batch_size}")
    keys = torch.arange(len(source))
    parts = [model.encode(source.rows(part).x, seeds=part, steps=steps).cpu() for part in keys.split(batch_size)]
    latents = torch.cat(parts).numpy()
    write_file(out, lambda file: np.savez(file, latents=latents))
    print(f"wrote the latents of {len(latents)} samples to {out}; their standard deviation is {latents.std():.4f}")
