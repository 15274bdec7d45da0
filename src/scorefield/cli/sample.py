"""`scorefield sample`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from scorefield._inputs import as_seeds
from scorefield.cli.parts.grids import Grid, times_of_run
from scorefield.cli.parts.guiding import guided_model
from scorefield.cli.parts.sources import (
    Precision,
    directory,
    load_conditions,
    locked,
    parse_device,
    parse_label,
    parse_seeds,
)
from scorefield.cli.parts.writing import Samples, save_samples, target
from scorefield.model import ScoreModel
from scorefield.processes import GaussianSDE
from scorefield.sampling import default
from scorefield.solvers import Solver
from scorefield.training import distributed


def sample(
    run: Path,
    seeds: str = "0-63",
    steps: int = 20,
    label: str = "",
    cond: str = "",
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    classifier: Path | None = None,
    solver: Solver | None = None,
    grid: Grid | None = None,
    tolerance: float | None = None,
    out: Path = Path("samples.png"),
    like: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = Precision.float32,
    types: Sequence[type] = (),
) -> None:
    """Draws samples from a trained model.

    Args:
        run: directory of a trained model.
        seeds: one for each sample: numbers and ranges, such as 0-63 or 1,5,10-12.
        steps: network calls for each sample with the default solver, steps of another one.
        label: class of the samples, by its name, or by its number if the classes have no names; any by default.
        cond: conditions in the units of the training data: a .npy file, a row for each sample or one for all, or the
            numbers of one row, such as 280,1.
        guidance: weight of classifier-free guidance to the label, for a model that was trained with and without labels:
            1 is none, more makes the samples more typical of the class and less various. With --classifier the weight
            of that one, 1 by default.
        guidance_interval: guide without a classifier only where sigma / alpha is above the first and at most the second
            of two numbers, such as [0.2,2].
        classifier: directory that `scorefield train-classifier` wrote for this run: guide to the label by it.
        solver: a class of scorefield.solvers, or your own by its import path; by default one that suits the steps.
        grid: times of the steps: log_snr (with --solver the default; quadratic for a process that is not Gaussian),
            information, karras, uniform, quadratic, or optimised for solver, steps and the data's spectrum, which takes
            some seconds once and is kept in the run.
        tolerance: error of samples of the probability-flow ODE for data of unit size, such as 1e-3, instead of steps
            and solver: an adaptive one takes as many network calls as each sample needs.
        out: by its ending a picture of all, of one sample by its own pixels (.png), an array (.npz, .npy), pages of a
            TIFF with the values as they are (.tif), a recording of all one after another (.wav), a table with the
            columns of the data (.csv, .tsv, .parquet), or a folder for a file each.
        like: a recording whose rate a .wav gets; by default that of the training data.
        batch_size: samples in one network call.
        device: auto, cpu, cuda, cuda:1, ...
        precision: of the network's arithmetic, float32 or bfloat16.
        types: your own classes that the model is made of, by their import paths.
    """
    place = parse_device(device)
    model = ScoreModel.load(run, types=types, device=place)
    folder = target(out, Samples.of(model, like=like))
    with (
        directory(folder),
        locked(out) if folder == out else nullcontext(),
        torch.autocast(place.type, precision.value, enabled=precision.value is not None),
    ):
        keys = as_seeds(parse_seeds(seeds))
        rows = load_conditions(cond, len(keys), model)
        times = None
        if tolerance is not None and (solver or grid):
            raise ValueError("--tolerance chooses an adaptive solver and its times: leave --solver and --grid out")
        if solver and not solver.adaptive:
            grid = grid or (Grid.log_snr if isinstance(model.denoiser.sde, GaussianSDE) else Grid.quadratic)
        if grid:
            solver = solver or default(model.denoiser.sde, steps)[0]
            times = times_of_run(run, model, solver, steps, grid)
        rows, given = rows if rows is None or len(rows) == 1 else distributed.mine(rows), label
        if guidance is not None or guidance_interval is not None or classifier is not None:
            model = guided_model(model, label, rows, guidance, guidance_interval, classifier, types, place)
            rows = given = None  # the guided model has them
        x = model.sample(
            seeds=distributed.mine(keys),
            steps=steps,
            label=parse_label(model, given) if given else None,
            solver=solver,
            times=times,
            tolerance=tolerance,
            batch_size=batch_size,
            progress=distributed.rank() == 0,
            cond=rows,
        )
        parts = distributed.gathered(x.cpu())
        if parts:
            save_samples(Samples.of(model, torch.cat(parts), like), out)
            print(f"wrote {len(keys)} samples to {out}")
