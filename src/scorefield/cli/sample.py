"""`scorefield sample`."""

from __future__ import annotations

from pathlib import Path

from scorefield.cli.sources import check_samples_target, parse_device, parse_seeds, save_samples
from scorefield.model import ScoreModel
from scorefield.solvers import Solver


def sample(
    run: Path,
    seeds: str = "0-63",
    steps: int = 20,
    label: int | None = None,
    solver: Solver | None = None,
    out: Path = Path("samples.png"),
    batch_size: int = 64,
    device: str = "auto",
) -> None:
    """Draws samples from a trained model.

    Args:
        run: directory of a trained model.
        seeds: one for each sample: numbers and ranges, such as 0-63 or 1,5,10-12.
        steps: network calls for each sample with the default solver, steps of another one.
        label: class of the samples; any by default.
        solver: a class of scorefield.solvers, or your own by its import path.
        out: a picture of all (.png), an array (.npz), or a folder for a file each.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
    """
    model = ScoreModel.load(run, device=parse_device(device))
    check_samples_target(out, model.event_shape)
    x = model.sample(
        seeds=parse_seeds(seeds), steps=steps, label=label, solver=solver, batch_size=batch_size, progress=True
    )
    save_samples(x, model.transform.levels, out)
    print(f"wrote {len(x)} samples to {out}")
